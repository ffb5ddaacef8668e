"""One plot a file: pure functions of a tidy table and its named columns that return a matplotlib figure."""
