"""The names of a catalogue to draw queries from, with what the tables break down by."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass

from app.domain import Item
from app.text import fold, normalise
from training.corpus import HOLDOUT, held_out

KINDS = ("title", "artist", "pair", "podcast")
SHARES = (0.3, 0.3, 0.3, 0.1)
MIN_CHARS, MAX_CHARS = 4, 64  # training leaves longer names out


@dataclass(frozen=True, slots=True)
class Name:
    """A folded name and what is known of it (see `Case`)."""

    text: str
    kind: str
    fame: str
    accented: bool


class Names:
    """Titles, artists, pairs in both orders and podcasts, drawn by kind first and by catalogue row second.

    A name is *head* when one of its rows is in the catalogue's top tenth by popularity, *tail* when none has any. Podcasts,
    whose popularity no file gives, are neither.
    """

    def __init__(self, items: Sequence[Item], is_name: Callable[[str], bool]) -> None:
        self.is_name = is_name
        self._pools: dict[str, list[tuple[str, Item]]] = {kind: [] for kind in KINDS}
        self._answers: dict[str, set[str]] = defaultdict(set)
        self._fame: dict[str, float] = defaultdict(float)
        tracks = [item for item in items if item.kind == "track"]
        popular = sorted((item.popularity for item in tracks), reverse=True)
        self._head = max(popular[max(len(popular) // 10 - 1, 0)], 1e-9) if popular else 0.0
        for item in items:
            for kind, text in forms(item):
                self._answers[text].add(item.id)
                self._fame[text] = max(self._fame[text], item.popularity)
                if item.kind in ("track", "podcast") and usable(text):
                    self._pools[kind].append((text, item))

    def among(self, wanted: Callable[[str], bool]) -> Names:
        """The same names, of which only those with a `wanted` text are drawn."""
        part = copy(self)
        part._pools = {kind: [entry for entry in pool if wanted(entry[0])] for kind, pool in self._pools.items()}
        return part

    def only(self, *kinds: str) -> Names:
        """The same names, of which only those of `kinds` are drawn."""
        part = copy(self)
        part._pools = {kind: pool if kind in kinds else [] for kind, pool in self._pools.items()}
        return part

    def draw(self, rng: random.Random) -> Name:
        """One name; the same state of `rng` gives the same."""
        filled = [(kind, share) for kind, share in zip(KINDS, SHARES, strict=True) if self._pools[kind]]
        (kind,) = rng.choices([k for k, _ in filled], [s for _, s in filled])
        text, item = rng.choice(self._pools[kind])
        shown = item.title if kind in ("title", "podcast") else item.artist if kind == "artist" else item.title + item.artist
        return Name(text, kind, self._rank(text, kind), any(c.isalpha() and not c.isascii() for c in normalise(shown)))

    def answers(self, text: str) -> frozenset[str]:
        """Ids of the items that folded `text` names."""
        return frozenset(self._answers[text])

    def _rank(self, text: str, kind: str) -> str:
        if kind == "podcast":
            return ""
        fame = self._fame[text]
        return "head" if fame >= self._head else "middle" if fame > 0 else "tail"


def forms(item: Item) -> list[tuple[str, str]]:
    """(kind, folded text) of every name of an item."""
    title, artist = fold(item.title), fold(item.artist)
    if item.kind == "podcast":
        return [("podcast", title)]
    names = [("title", title), ("artist", artist)]
    if title and artist and title != artist:
        names += [("pair", f"{title} {artist}"), ("pair", f"{artist} {title}")]
    return [(kind, text) for kind, text in names if text]


def usable(text: str) -> bool:
    return MIN_CHARS <= len(text) <= MAX_CHARS and any(c.isalpha() for c in text)


def trained_names(items: Sequence[Item]) -> set[str]:
    """Every name that training may have drawn: those of the rows whose title is not `untouched`.

    An artist all of whose titles are held out is never drawn either.
    """
    return {text for item in items if not untouched(fold(item.title)) for _, text in forms(item)}


def untouched(title: str) -> bool:
    """Whether a folded title is in that half of the speller's hold-out which the reranker's fit leaves to evaluation."""
    return held_out(title, HOLDOUT) and not held_out(title, HOLDOUT / 2)
