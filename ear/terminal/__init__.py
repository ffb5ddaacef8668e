"""Terminal output: text without markup or secrets, and progress bars."""
