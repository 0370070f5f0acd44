"""The audio ends of a conversation on this computer: a file or the sound card."""
