"""What runs in a trial: one stage of training, then the evaluations that wait for it."""
