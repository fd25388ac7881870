"""Query–passage pairs for contrastive training, made from catalogue files alone.

Each pair carries a *constraint*: the facts a passage must have to answer the query (`{"m:sad", "g:rock"}`). In a batch, every
other passage that meets a query's constraint is no negative for it, so "sad songs" does not push sad songs away.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from app.domain import Item
from app.index.passage import passage_text
from app.text import fold
from training.corpus import read_rows
from training.noise import corrupt

Facts = frozenset[str]


@dataclass(frozen=True, slots=True)
class Pair:
    """One training example; `facts` are the passage's."""

    query: str
    passage: str
    constraint: Facts
    facts: Facts


@dataclass(slots=True)
class Entry:
    item: Item
    passage: str
    facts: Facts


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
    """Draws pairs: names (as typed, misspelt or half typed) and descriptions (moods, genres, decades, topics, playlists)."""

    def __init__(self, catalogues: list[Path], shares: list[float], playlists: Path | None, seed: int) -> None:
        self.rng = random.Random(seed)
        self.phrases = json.loads((Path(__file__).parent / "phrases.json").read_text(encoding="utf-8"))
        lists = self._playlists(playlists)
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

    @staticmethod
    def _playlists(path: Path | None) -> dict[tuple[str, str], list[str]]:
        members: dict[tuple[str, str], list[str]] = defaultdict(list)
        for row in read_rows(path) if path else ():
            name = fold(row["playlist"])
            if sum(c.isalpha() for c in name) > 3:
                members[fold(row["title"]), fold(row["artist"])].append(name)
        return members

    def draw(self) -> Pair:
        rng = self.rng
        g = rng.choices(range(len(self.groups)), self.shares)[0]
        entry = rng.choices(self.groups[g], cum_weights=self.cumulative[g])[0]
        described = self._describe(entry) if rng.random() < 0.45 else None
        query, constraint = described or self._name(entry)
        return Pair(query, entry.passage, constraint, entry.facts)

    def _name(self, entry: Entry) -> tuple[str, Facts]:
        rng, item = self.rng, entry.item
        title, artist = fold(item.title), fold(item.artist)
        form = rng.random()
        if form < 0.5 or not artist or item.kind == "artist":
            query, constraint = title, {f"t:{title}"}
        elif form < 0.62 and item.kind != "podcast":
            query, constraint = rng.choice(self.phrases["artist"]).format(a=artist), {f"a:{artist}"}
        else:
            query = f"{title} {artist}" if rng.random() < 0.6 else f"{artist} {title}"
            constraint = {f"t:{title}", f"a:{artist}"}
        spoil = rng.random()
        if spoil < 0.4:
            query = corrupt(query, rng)
        elif spoil < 0.55 and len(query) > 6:
            query = query[: rng.randint(max(4, len(query) // 2), len(query) - 1)].rstrip()
        return query, frozenset(constraint)

    def _describe(self, entry: Entry) -> tuple[str, Facts] | None:
        """A description of the item in words, or None when nothing but its name is known."""
        rng, phrases = self.rng, self.phrases
        of = lambda letter: [f for f in sorted(entry.facts) if f.startswith(letter)]  # noqa: E731
        genres, moods, decades, lists = of("g:"), of("m:"), of("d:"), of("p:")
        podcast = entry.item.kind == "podcast"
        options = ["playlist"] * (2 * bool(lists)) + ["topic"] * (3 * bool(genres and podcast))
        if not podcast:
            options += ["mood"] * (3 * bool(moods)) + ["two_moods"] * (len(moods) > 1) + ["genre"] * (2 * bool(genres))
            options += ["decade_genre"] * (2 * bool(genres and decades)) + ["mood_genre"] * bool(genres and moods)
            options += ["decade"] * bool(decades)
        if not options:
            return None
        choice = rng.choice(options)
        say_mood = lambda fact: rng.choice([*phrases["moods"].get(fact[2:], [fact[2:]]), fact[2:]])  # noqa: E731
        genre, mood = rng.choice(genres or [""]), rng.choice(moods or [""])
        decade = rng.choice(decades or [""])
        d = rng.choice(phrases["decades"].get(decade[2:], [f"{decade[2:]}s"]))
        if choice == "playlist":
            name = rng.choice(lists)
            return name[2:], frozenset({name})
        if choice in ("mood", "two_moods"):
            other = rng.choice([m for m in moods if m != mood] or [mood])
            if choice == "mood":
                text, facts = say_mood(mood), {mood}
            else:
                text = rng.choice(phrases["two_moods"]).format(m=say_mood(mood), n=other[2:])
                facts = {mood, other}
        elif choice == "decade":
            text, facts = rng.choice(phrases["decade"]).format(d=d), {decade}
        else:
            text = rng.choice(phrases[choice]).format(x=genre[2:], d=d, m=mood[2:])
            facts = {genre} | ({decade} if choice == "decade_genre" else {mood} if choice == "mood_genre" else set())
        return (corrupt(text, rng, 1) if rng.random() < 0.1 else text), frozenset(facts | {f"k:{entry.item.kind}"})
