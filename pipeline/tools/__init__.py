"""Tools: what a reply can do besides being spoken."""
