"""Whose turn it is: speech, its end, interruptions."""
