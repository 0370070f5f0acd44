"""For all tests."""

from __future__ import annotations

import hypothesis

# The same examples at every run, so that a failure belongs to a change. Others: `pytest --hypothesis-profile=default`.
hypothesis.settings.register_profile("steady", derandomize=True)
hypothesis.settings.load_profile("steady")
