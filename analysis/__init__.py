"""From MLflow's runs to tables, figures and findings."""
