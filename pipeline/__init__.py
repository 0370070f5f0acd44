"""Sound in, sound out, and the conversation between."""
