"""The models' files: planned, downloaded, checked."""
