"""OpenAI's audio API, and what else its clients ask for: one address for the ears, the voice and the mind."""
