"""The commands talk, models and doctor."""
