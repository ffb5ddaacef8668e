"""The process that runs a sweep: it schedules tasks, starts Ray Tune trials and shows their progress."""
