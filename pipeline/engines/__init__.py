"""The engines in force: chosen, started, lent to conversations, replaced."""
