"""The pages' HTTP API, one router per file."""
