"""What people see in a terminal: text without markup or secrets, progress bars."""
