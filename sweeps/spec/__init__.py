"""What a sweep is: its YAML, the space, the configurations and the stage tree that it is compiled into."""
