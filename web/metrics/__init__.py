"""Parley's measurements of itself: for Prometheus, for its own page, and as traces if the owner wants them."""
