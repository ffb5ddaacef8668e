"""MLflow tracking, derived from the store: a parent run for each sweep, a child run for each configuration and seed."""
