"""The models' files: what is needed, fetched, checked."""
