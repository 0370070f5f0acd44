"""Worker processes and other places where engines run."""
