"""For all tests."""

from __future__ import annotations

import hypothesis

# The same examples at every run, so that a failure belongs to a change. Others: `pytest --hypothesis-profile=default`.
# Nor does it belong to how busy the machine is.
hypothesis.settings.register_profile(
    "steady", derandomize=True, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("steady")
