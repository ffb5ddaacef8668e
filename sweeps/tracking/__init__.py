"""MLflow as a projection of the store: one parent run for each sweep, one child run for each configuration and seed."""
