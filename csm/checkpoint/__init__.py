"""The model's weights on disk, in both published formats."""
