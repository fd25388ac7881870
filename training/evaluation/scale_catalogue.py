"""A catalogue of any size from the demo catalogue's vocabulary, seeded: what `searchbar bench scale` indexes.

Titles, artists and albums are the demo's words put together anew, each word as often as the demo has it, so the frequent
trigrams of a real catalogue are as frequent here. Genres, moods, year and popularity are drawn together from one demo row.
An artist has `TRACKS_PER_ARTIST` rows on average, a few have very many (Zipf). Nothing else repeats but by chance.
"""

from __future__ import annotations

import csv
import random
from bisect import bisect
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

from app.domain import Item

TRACKS_PER_ARTIST = 10
COLUMNS = ("id", "kind", "title", "artist", "album", "year", "genres", "moods", "popularity")


class _Names:
    """Names of the lengths and words of `names`."""

    def __init__(self, names: Sequence[str]) -> None:
        split = [name.split() for name in names if name]
        self._lengths = [len(words) for words in split]
        self._words = [word for words in split for word in words]

    def draw(self, rng: random.Random) -> str:
        return " ".join(rng.choices(self._words, k=rng.choice(self._lengths)))


def synthetic_items(demo: Sequence[Item], count: int, seed: int) -> Iterator[Item]:
    """`count` items, the same for the same seed; the first of a longer catalogue are not those of a shorter one."""
    rng = random.Random(seed)
    titles = _Names([item.title for item in demo if item.kind == "track"])
    artists = _Names([item.artist for item in demo if item.kind != "podcast"])
    albums = _Names([item.album for item in demo])
    roster = [artists.draw(rng) for _ in range(max(1, count // TRACKS_PER_ARTIST))]
    shares = list(accumulate(1.0 / (rank + 10.0) for rank in range(len(roster))))
    for number in range(count):
        like = rng.choice(demo)
        artist = roster[bisect(shares, rng.random() * shares[-1], hi=len(roster) - 1)]
        title = artist if like.kind == "artist" else titles.draw(rng)
        album = albums.draw(rng) if like.album else ""
        yield Item(f"s{number:08d}", title, like.kind, artist, album, like.year, like.genres, like.moods, like.popularity)


def write_catalogue(path: Path, demo: Sequence[Item], count: int, seed: int) -> None:
    """Write `synthetic_items` to a CSV file that `searchbar index` reads."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for item in synthetic_items(demo, count, seed):
            lists = ";".join(item.genres), ";".join(item.moods)
            year = "" if item.year is None else item.year
            rows.writerow((item.id, item.kind, item.title, item.artist, item.album, year, *lists, item.popularity))
