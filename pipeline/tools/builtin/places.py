"""The time elsewhere: cities and countries by their names in the time zone database."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo, available_timezones

_ALSO = {
    "usa": "united states", "us": "united states", "america": "united states", "uk": "britain (uk)",
    "england": "britain (uk)", "great britain": "britain (uk)", "britain": "britain (uk)", "scotland": "britain (uk)",
    "united kingdom": "britain (uk)", "wales": "britain (uk)", "czechia": "czech republic", "holland": "netherlands",
    "south korea": "korea (south)", "north korea": "korea (north)", "burma": "myanmar (burma)",
    "myanmar": "myanmar (burma)",
}  # fmt: skip
_CITIES = {
    "beijing": "Asia/Shanghai", "china": "Asia/Shanghai", "bombay": "Asia/Kolkata", "mumbai": "Asia/Kolkata",
    "delhi": "Asia/Kolkata",
    "new delhi": "Asia/Kolkata", "calcutta": "Asia/Kolkata", "bangalore": "Asia/Kolkata",
    "san francisco": "America/Los_Angeles",
    "seattle": "America/Los_Angeles", "las vegas": "America/Los_Angeles", "california": "America/Los_Angeles",
    "boston": "America/New_York", "washington": "America/New_York", "miami": "America/New_York",
    "florida": "America/New_York",
    "philadelphia": "America/New_York", "texas": "America/Chicago", "houston": "America/Chicago",
    "dallas": "America/Chicago",
    "munich": "Europe/Berlin", "hamburg": "Europe/Berlin", "frankfurt": "Europe/Berlin", "cologne": "Europe/Berlin",
    "milan": "Europe/Rome", "venice": "Europe/Rome", "barcelona": "Europe/Madrid", "geneva": "Europe/Zurich",
    "rio": "America/Sao_Paulo", "rio de janeiro": "America/Sao_Paulo", "hanoi": "Asia/Bangkok", "kyiv": "Europe/Kyiv",
    "osaka": "Asia/Tokyo", "kyoto": "Asia/Tokyo", "canberra": "Australia/Sydney", "wellington": "Pacific/Auckland",
    "cape town": "Africa/Johannesburg", "edinburgh": "Europe/London", "manchester": "Europe/London",
    "ottawa": "America/Toronto",
    "montreal": "America/Toronto", "tel aviv": "Asia/Jerusalem", "abu dhabi": "Asia/Dubai",
    "st petersburg": "Europe/Moscow",
    "bergen": "Europe/Oslo", "turku": "Europe/Helsinki", "gothenburg": "Europe/Stockholm",
}  # fmt: skip
"""Large cities that the database includes in another city's zone."""


def time_in(place: str, now: datetime) -> datetime | None:
    """Return the local time; None if the place isn't known or has several times."""
    place = " ".join(place.lower().replace(".", "").replace("-", " ").split()).removeprefix("the ")
    times = {now.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for zone in _zones().get(_ALSO.get(place, place), ())}
    return times.pop() if len(times) == 1 else None


@cache
def _zones() -> dict[str, tuple[str, ...]]:
    """Return the zones of each city and country, by its name in lower case."""
    cities = {
        zone.rsplit("/", 1)[1].replace("_", " ").replace("-", " ").lower(): (zone,)
        for zone in sorted(available_timezones())
        if zone.split("/")[0] in {"Africa", "America", "Asia", "Atlantic", "Australia", "Europe", "Indian", "Pacific"}
    }
    cities |= {city: (zone,) for city, zone in _CITIES.items()}
    tables = files("tzdata") / "zoneinfo"
    lines = [
        [line.split("\t") for line in (tables / name).read_text(encoding="utf-8").splitlines() if line[:1] not in "#"]
        for name in ("iso3166.tab", "zone.tab")
    ]
    zones: dict[str, list[str]] = {}
    for code, _, zone, *_ in lines[1]:
        zones.setdefault(code, []).append(zone)
    countries = {name.lower(): tuple(zones[code]) for code, name in lines[0] if code in zones}
    return countries | cities
