"""The pages' HTTP API, one router a file."""
