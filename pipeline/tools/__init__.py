"""What a reply can do besides being said."""
