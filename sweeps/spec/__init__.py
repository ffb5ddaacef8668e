"""What a sweep is: its YAML schema, its space, its configurations, and the stage tree compiled from them."""
