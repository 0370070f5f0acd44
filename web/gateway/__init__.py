"""A gateway holds the conversations of many users, each with their own memory, settings and records."""
