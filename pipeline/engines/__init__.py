"""The running engines: chosen, started, lent to conversations, replaced."""
