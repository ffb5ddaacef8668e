"""The numbers of the paper, as YAML files."""
