"""What makes the documentation: the reference out of the code, and the pictures out of a real talk."""
