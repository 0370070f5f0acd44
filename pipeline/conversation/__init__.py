"""One talk: what was said by whom, what is answered, what was heard of it."""
