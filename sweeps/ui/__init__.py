"""`ear ui`: MLflow's and Optuna's web pages, open to whoever has the link that it prints."""
