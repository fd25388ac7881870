"""A point's payload as ranking reads it, made once and kept for as long as the point is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.domain import Item
from app.index.ngrams import words
from app.index.schema import to_item
from app.text import fold


class Entry:
    """An item and the names it answers to.

    Attributes:
        id, popularity: the item's.
        title_names, artist_names: keys, see `schema`; `names`: both.
    """

    __slots__ = ("_item", "_payload", "_words", "artist_names", "id", "names", "popularity", "title_names")

    def __init__(self, payload: Mapping[str, Any]) -> None:
        """Raises KeyError when the payload was not written by `schema.to_payload`."""
        self.id: str = payload["id"]
        self.popularity: float = payload["popularity"]
        self.title_names: list[str] = payload["title_names"]
        self.artist_names: list[str] = payload["artist_names"]
        self.names = [*self.title_names, *self.artist_names]
        self._payload: Mapping[str, Any] | None = payload
        self._item: Item | None = None
        self._words: tuple[list[str], list[str]] | None = None

    @property
    def item(self) -> Item:
        """Made when it is first wanted: most candidates are no hits."""
        if self._item is None:
            assert self._payload is not None
            self._item, self._payload = to_item(self._payload), None
        return self._item

    @property
    def words(self) -> tuple[list[str], list[str]]:
        """The folded words of title and of artist."""
        if self._words is None:
            self._words = words(fold(self.item.title)), words(fold(self.item.artist))
        return self._words
