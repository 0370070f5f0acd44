"""What it takes to run Parley on several machines."""
