"""One conversation: who said what, what is answered, and how much of the answer was heard."""
