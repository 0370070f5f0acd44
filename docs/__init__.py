"""Makes the documentation: the reference from the code, and the pictures from a real conversation."""
