"""The ends of a conversation on this computer: a file, the sound card."""
