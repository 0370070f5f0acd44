"""The items of a conversation that a client knows of, in order."""

from __future__ import annotations

from web.realtime import parts

ROOT = "root"
"""As a position: before all items."""


class Items:
    def __init__(self) -> None:
        self._items: dict[str, parts.Item] = {}

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._items

    def __len__(self) -> int:
        return len(self._items)

    @property
    def ids(self) -> list[str]:
        return list(self._items)

    @property
    def all(self) -> list[parts.Item]:
        return list(self._items.values())

    @property
    def last(self) -> str | None:
        return next(reversed(self._items), None)

    def find(self, item_id: str) -> parts.Item | None:
        return self._items.get(item_id)

    def add(self, item: parts.Item, after: str | None = None) -> str | None:
        """Add an item at the end, or after another or ROOT; return the id of the one it follows."""
        if after is None:
            after = self.last or ROOT
        place = 0 if after == ROOT else self.ids.index(after) + 1
        entries = list(self._items.items())
        entries.insert(place, (item.id or "", item))
        self._items = dict(entries)
        return None if place == 0 else entries[place - 1][0]

    def before(self, item_id: str) -> str | None:
        ids = self.ids
        return ids[ids.index(item_id) - 1] if item_id in ids[1:] else None

    def replace(self, item: parts.Item) -> None:
        """Change what the client is told of an item; a deleted item stays deleted."""
        if item.id in self._items:
            self._items[item.id] = item

    def remove(self, item_id: str) -> None:
        del self._items[item_id]
