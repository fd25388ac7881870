"""How often and in how popular rows each name and each word of a catalogue is met: counts that rows join and leave."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from app.domain import Item
from app.text import fold

GRAINS = 2**20  # to the unit of fame
# Words of queries about any catalogue.
COMMON_WORDS = (
    "song", "songs", "track", "tracks", "music", "album", "albums", "artist", "artists", "band", "podcast", "podcasts",
    "playlist", "playlists", "hits", "best",
)  # fmt: skip

Table = dict[str, float]


def fame(popularity: float) -> float:
    """What one row adds, 1 to 11, in whole `GRAINS`: such sums are exact, so what a row added it takes away again."""
    return round((1.0 + popularity / 10) * GRAINS) / GRAINS


def shift(table: Table, text: str, by: float) -> float:
    """Change a count and return it. Each row counts 1 or more, so less than a half is nobody and leaves the table."""
    left = table.get(text, 0.0) + by
    if left < 0.5:
        table.pop(text, None)
        return 0.0
    table[text] = left
    return left


@dataclass(frozen=True, slots=True)
class Changes:
    """What an update brought and took: names to be proposed, and words."""

    names: frozenset[str]
    lost_names: frozenset[str]
    words: frozenset[str]
    lost_words: frozenset[str]


class Tally(Mapping[str, float]):
    """Names → fame: titles and artists, else pairs as "title artist"; 0 for the other order, which is a name too.

    Attributes:
        words: words of names, genres and moods → fame.
        total: sum of the names' fame.
        total_words: sum of the words' fame.
        most: fame of the most famous word.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self._bare: Table = {}
        self._pairs: Table = {}
        self._turned: Table = {}  # how many rows; proposed through the first order
        self.words: Table = {word: 10.0 for word in COMMON_WORDS}
        for item in items:
            for table, text, by in self._shares(item):
                table[text] = table.get(text, 0.0) + by
        self.total = sum(self.values())
        self.total_words = sum(self.words.values())
        self.most = max(self.words.values())

    def __getitem__(self, name: str) -> float:
        for table in (self._bare, self._pairs):
            if name in table:
                return table[name]
        if name in self._turned:
            return 0.0
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return name in self._bare or name in self._pairs or name in self._turned

    def __iter__(self) -> Iterator[str]:
        yield from self._pairs
        yield from (name for name in self._turned if name not in self._pairs)
        yield from (name for name in self._bare if name not in self._pairs and name not in self._turned)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def proposed(self) -> Iterator[str]:
        """Names in the order in which they are proposed: a pair "title artist" only."""
        yield from self._bare
        yield from (name for name in self._pairs if name not in self._bare)

    def update(self, added: Sequence[Item], removed: Sequence[Item]) -> Changes:
        """Count rows in and others out."""
        changes = [share for item in added for share in self._shares(item)]
        changes += [(table, text, -by) for item in removed for table, text, by in self._shares(item)]
        words = {text for table, text, _ in changes if table is self.words}
        names = {text for table, text, _ in changes if table is not self.words}
        known_words = {word: fame for word in words if (fame := self.words.get(word))}
        known_names = {name for name in names if self._is_proposed(name)}
        self.total -= sum(self.get(name, 0.0) for name in names)
        for table, text, by in changes:
            shift(table, text, by)
        self.total += sum(self.get(name, 0.0) for name in names)
        words_now = {word: fame for word in words if (fame := self.words.get(word))}
        self.total_words += sum(words_now.values()) - sum(known_words.values())
        if self.most in known_words.values():  # the most famous may be another one now: look at all
            self.most = max(self.words.values())
        self.most = max(self.most, *words_now.values(), 0.0)
        names_now = {name for name in names if self._is_proposed(name)}
        return Changes(
            frozenset(names_now - known_names), frozenset(known_names - names_now),
            frozenset(words_now.keys() - known_words.keys()), frozenset(known_words.keys() - words_now.keys()),
        )  # fmt: skip

    def _is_proposed(self, name: str) -> bool:
        return name in self._bare or name in self._pairs

    def _shares(self, item: Item) -> Iterator[tuple[Table, str, float]]:
        """(table, name or word, what the row adds to it)."""
        share = fame(item.popularity)
        title, artist = fold(item.title), fold(item.artist)
        for name in dict.fromkeys(filter(None, (title, artist))):  # in order: a set's would change from start to start
            yield self._bare, name, share
            for word in name.split():
                yield self.words, word, share
        for word in fold(" ".join((*item.genres, *item.moods))).split():
            yield self.words, word, 1.0
        if title and artist and title != artist and item.kind != "podcast":
            yield self._pairs, f"{title} {artist}", share
            yield self._turned, f"{artist} {title}", 1.0
