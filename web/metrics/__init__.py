"""What Parley measures of itself: for Prometheus, for its own page, and as traces where the owner asks for them."""
