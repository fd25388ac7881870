"""Query–passage pairs for contrastive training, made from catalogue files alone.

Each pair carries a *constraint*: the facts a passage must have to answer the query (`{"m:sad", "g:rock"}`). In a batch, every
other passage that meets a query's constraint is no negative for it, so "sad songs" does not push sad songs away.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from zlib import crc32

from app.domain import Item
from app.index.passage import passage_text
from app.text import fold
from training.corpus import read_rows
from training.embedder.describe import Describer, Facts
from training.noise import corrupt

DESCRIBED = 0.55  # share of the queries that say what an item is like, not what it is called
HELD_OUT = 10  # one playlist title in so many is kept for evaluation


def held_out(playlist: str) -> bool:
    """Whether a folded playlist title is never trained on: retrieval is evaluated on these."""
    return crc32(playlist.encode()) % HELD_OUT == 0


@dataclass(frozen=True, slots=True)
class Pair:
    """One training example; `facts` are the passage's."""

    query: str
    passage: str
    constraint: Facts
    facts: Facts


@dataclass(slots=True, eq=False)
class Entry:
    """An item as it is trained on; `near` are entries that its name is easily taken for."""

    item: Item
    passage: str
    facts: Facts
    near: list[Entry] = field(default_factory=list)


def read_items(path: Path) -> list[Item]:
    """Items of a catalogue CSV or of a TSV with artist, title, year and genre columns (podcasts: publisher and category)."""
    items = []
    for n, row in enumerate(read_rows(path)):
        topics = ";".join(filter(None, (row.get("category", ""), row.get("parent_category", "").replace(" & ", ";"))))
        genres = row.get("genres") or (row.get("genre") or "").replace(",", ";").replace("/", ";") or topics
        year = row.get("year") or ""
        items.append(
            Item(
                id=f"{path.stem}-{n}",
                title=row["title"],
                kind=row.get("kind") or ("podcast" if "publisher" in row else "track"),  # type: ignore[arg-type]
                artist=row.get("artist") or row.get("publisher") or "",
                album=row.get("album") or "",
                year=int(year) if year.isdigit() else None,
                genres=tuple(dict.fromkeys(g.strip().lower() for g in genres.split(";") if g.strip())),
                moods=tuple(m for m in (row.get("moods") or "").split(";") if m),
                popularity=float(row.get("popularity") or min(float(row.get("billboard_weeks") or 0) * 3, 100)),
            )
        )
    return items


def facts_of(item: Item, playlists: tuple[str, ...] = ()) -> Facts:
    facts = {f"k:{item.kind}", f"t:{fold(item.title)}", f"a:{fold(item.artist)}"}
    facts |= {f"g:{g}" for g in item.genres} | {f"m:{m}" for m in item.moods} | {f"p:{p}" for p in playlists}
    if item.year and item.kind != "podcast":
        facts.add(f"d:{item.year // 10 * 10}")
    return frozenset(facts)


class Pairs:
    """Draws pairs: names (as typed, misspelt or half typed) and descriptions (moods, genres, decades, topics, playlists).

    Args:
        playlists: TSV of playlist, artist and title, or none.
        every_playlist: mere names of playlists are drawn too, which can only be learnt by heart.

    Attributes:
        left_out: mere names of playlists that are not drawn.
    """

    def __init__(
        self, catalogues: list[Path], shares: list[float], playlists: Path | None, seed: int, every_playlist: bool = False
    ) -> None:
        self.rng = random.Random(seed)
        self.describer = Describer(self.rng)
        self.left_out: set[str] = set()
        lists = self._playlists(playlists, every_playlist)
        self.groups: list[list[Entry]] = []
        self.cumulative: list[list[float]] = []
        self.shares = shares
        for path in catalogues:
            group = []
            for item in read_items(path):
                if any(c.isalnum() for c in item.title):
                    names = tuple(lists.get((fold(item.title), fold(item.artist)), ()))
                    group.append(Entry(item, passage_text(item), facts_of(item, names)))
            self.groups.append(group)
            self.cumulative.append(list(accumulate(1.0 + e.item.popularity / 33 for e in group)))

    def _playlists(self, path: Path | None, every: bool) -> dict[tuple[str, str], list[str]]:
        """The titles of the playlists that a song, by folded title and artist, is on."""
        members: dict[tuple[str, str], list[str]] = defaultdict(list)
        for row in read_rows(path) if path else ():
            name = fold(row["playlist"])
            if sum(c.isalpha() for c in name) <= 3 or held_out(name):
                continue
            if every or self.describer.tells(name):
                members[fold(row["title"]), fold(row["artist"])].append(name)
            else:
                self.left_out.add(name)
        return members

    def draw(self) -> Pair:
        """A query for a random entry, popular ones more often."""
        return self.about(self.pick())

    def pick(self) -> Entry:
        """A random entry, by the shares of the catalogues and by popularity."""
        group = self.rng.choices(range(len(self.groups)), self.shares)[0]
        return self.rng.choices(self.groups[group], cum_weights=self.cumulative[group])[0]

    def about(self, entry: Entry) -> Pair:
        """A random query that `entry` answers."""
        described = self.describer.describe(entry.facts, entry.item.kind) if self.rng.random() < DESCRIBED else None
        query, constraint = described or self._name(entry)
        return Pair(query, entry.passage, constraint, entry.facts)

    def _name(self, entry: Entry) -> tuple[str, Facts]:
        rng, item = self.rng, entry.item
        title, artist = fold(item.title), fold(item.artist)
        form = rng.random()
        if form < 0.5 or not artist or item.kind == "artist":
            query, constraint = title, {f"t:{title}"}
        elif form < 0.62 and item.kind != "podcast":
            query, constraint = rng.choice(self.describer.phrases["artist"]).format(a=artist), {f"a:{artist}"}
        else:
            query = f"{title} {artist}" if rng.random() < 0.6 else f"{artist} {title}"
            constraint = {f"t:{title}", f"a:{artist}"}
        spoil = rng.random()
        if spoil < 0.4:
            query = corrupt(query, rng)
        elif spoil < 0.55 and len(query) > 6:
            query = query[: rng.randint(max(4, len(query) // 2), len(query) - 1)].rstrip()
        return query, frozenset(constraint)
