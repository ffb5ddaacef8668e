"""From a sweep to its final model: chooses the best configuration, measures it again, writes it, and keeps a record."""
