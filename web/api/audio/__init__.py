"""OpenAI's audio API, and what its clients ask besides: one address for the ears, the voice and the mind."""
