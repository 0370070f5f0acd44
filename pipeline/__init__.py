"""The speech pipeline: sound in, sound out, and the conversation between."""
