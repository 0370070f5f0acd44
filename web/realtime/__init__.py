"""OpenAI's Realtime protocol: one call, from its socket to its conversation."""
