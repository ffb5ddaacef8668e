"""Files and folders: written whole or not at all, private where they must be, temporary, leased."""
