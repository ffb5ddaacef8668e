"""`ear ui`: serves MLflow's and Optuna's web pages to whoever has the link that it prints."""
