"""Which profiles this version can offer."""

from __future__ import annotations

from config.profiles import Profile
from pipeline.catalogue import CATALOGUE


def offered(profile: Profile) -> bool:
    """Whether every engine of it is in the catalogue."""
    return all((stage, choice.engine) in CATALOGUE for stage, choice in profile.choices)
