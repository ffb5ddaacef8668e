"""Files and folders: atomic writing, private and temporary folders, leases, detection of file types."""
