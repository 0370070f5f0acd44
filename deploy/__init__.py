"""What is needed to run Parley on several machines."""
