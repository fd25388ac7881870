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
        title_names, artist_names: keys, see `schema`; `names`: both.
    """

    __slots__ = ("_words", "artist_names", "item", "names", "title_names")

    def __init__(self, payload: Mapping[str, Any]) -> None:
        """Raises KeyError when the payload was not written by `schema.to_payload`."""
        self.item: Item = to_item(payload)
        self.title_names: list[str] = payload["title_names"]
        self.artist_names: list[str] = payload["artist_names"]
        self.names = [*self.title_names, *self.artist_names]
        self._words: tuple[list[str], list[str]] | None = None

    @property
    def words(self) -> tuple[list[str], list[str]]:
        """The folded words of title and of artist."""
        if self._words is None:
            self._words = words(fold(self.item.title)), words(fold(self.item.artist))
        return self._words
