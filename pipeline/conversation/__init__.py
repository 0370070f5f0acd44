"""One conversation: who said what, what is answered, and what was heard of it."""
