"""What someone types who does not know a name: moods, genres, decades, topics and playlists in words (`phrases.json`).

The bank's lists, by what they hold:

==================================  =====================================================================================
moods                               whole queries for a mood: ``{"rainy day": ["rain on the window", …]}``
adjectives, podcast_moods           words for a mood that fit into templates; the second for podcasts
genres, topics                      ``names`` stand for the genre in templates and alone, ``queries`` only alone
decades, eras                       names of a decade; whole queries around ``{x}``, what is played
mood, genre, topic, two_moods, …    templates, by what they say: ``{x}`` genre or topic, ``{d}`` decade, ``{m}``, ``{n}`` moods
==================================  =====================================================================================
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

from app.index.ngrams import words
from app.text import fold
from training.noise import corrupt

PHRASES = Path(__file__).parent / "phrases.json"
Facts = frozenset[str]
Said = tuple[str, set[str]]

# How often each form is drawn, relative to the others that an item's facts allow.
PODCAST_FORMS = {"topic": 3, "podcast_mood": 1, "podcast_mood_topic": 1}
MUSIC_FORMS = {"mood": 3, "two_moods": 1, "genre": 2, "decade_genre": 2, "mood_genre": 1, "decade": 1}
TEMPLATES = ("artist", "topic", *MUSIC_FORMS)


def telling(phrases: dict[str, Any]) -> frozenset[str]:
    """The folded words by which a text says what music is like: those of moods, genres and decades that no template has."""
    genres = (name for genre, others in phrases["genres"].items() for name in (genre, *others["names"]))
    moods = (name for mood, others in phrases["adjectives"].items() for name in (mood, *others))
    decades = (name for others in phrases["decades"].values() for name in others)
    templates = (template for form in TEMPLATES for template in phrases[form])
    said, meant = ({w for text in texts for w in words(fold(text))} for texts in (templates, chain(genres, moods, decades)))
    return frozenset(word for word in meant - said if word.isalnum() and not word.isdigit())


class Describer:
    """Draws a description of an item and the facts that a passage must have to answer it.

    Args:
        rng: the only source of randomness.
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.phrases: dict[str, Any] = json.loads(PHRASES.read_text(encoding="utf-8"))
        self._telling = telling(self.phrases)
        self._say: dict[str, Callable[[dict[str, list[str]]], Said]] = {
            "playlist": self._playlist,
            "mood": self._mood,
            "two_moods": self._two_moods,
            "genre": lambda of: self._kind_of("genre", of),
            "topic": lambda of: self._kind_of("topic", of),
            "decade": self._decade,
            "decade_genre": self._decade_genre,
            "mood_genre": self._mood_genre,
            "podcast_mood": self._podcast_mood,
            "podcast_mood_topic": self._podcast_mood_topic,
        }

    def tells(self, title: str) -> bool:
        """Whether a folded title says something of the music it stands for (`sad indie`), or is a mere name (`lorem`)."""
        return not self._telling.isdisjoint(words(title))

    def describe(self, facts: Facts, kind: str) -> tuple[str, Facts] | None:
        """A description in folded words with its constraint, or None when nothing but the item's name is known.

        Args:
            facts: the passage's, as `facts_of` writes them (`m:sad`, `g:rock`, `d:1980`, `p:<playlist>`).
            kind: of the item; it is part of every constraint but a playlist's.
        """
        of = {letter: [f for f in sorted(facts) if f.startswith(f"{letter}:")] for letter in "gmdp"}
        if kind == "podcast":
            of["g"] = [f for f in of["g"] if f != "g:other"]  # a directory's leftovers: no one asks for them
        forms = self._forms(of, kind)
        if not forms:
            return None
        form = self.rng.choices(list(forms), list(forms.values()))[0]
        text, needed = self._say[form](of)
        if form == "playlist":
            return text, frozenset(needed)
        text = fold(text)
        return (corrupt(text, self.rng, 1) if self.rng.random() < 0.1 else text), frozenset(needed | {f"k:{kind}"})

    @staticmethod
    def _forms(of: dict[str, list[str]], kind: str) -> dict[str, int]:
        known = {"playlist": of["p"], "mood": of["m"], "two_moods": of["m"][1:], "genre": of["g"], "topic": of["g"]}
        known |= {"decade": of["d"], "podcast_mood": of["m"]}
        known |= {"decade_genre": of["g"] and of["d"], "mood_genre": of["g"] and of["m"]}
        known |= {"podcast_mood_topic": of["g"] and of["m"]}
        weights = {"playlist": 2} | (PODCAST_FORMS if kind == "podcast" else MUSIC_FORMS)
        return {form: weight for form, weight in weights.items() if known[form]}

    def _template(self, name: str, **words: str) -> str:
        template: str = self.rng.choice(self.phrases[name])
        return template.format(**words)

    def _playlist(self, of: dict[str, list[str]]) -> Said:
        name = self.rng.choice(of["p"])
        return name[2:], {name}

    def _adjective(self, mood: str, bank: str = "adjectives") -> str:
        words: list[str] = self.phrases[bank].get(mood[2:]) or [mood[2:]]
        return self.rng.choice(words)

    def _named(self, genre: str, bank: str = "genres", share: float = 0.5) -> str:
        """A genre or topic as it fits into a template: its own name or, in a `share` of the draws, another."""
        own = genre[2:].split(" | ")[0]  # the chart's genres carry playlist names: "k-pop | playlist: new music k-pop"
        others = self.phrases[bank].get(own, {}).get("names")
        return self.rng.choice(others) if others and self.rng.random() < share else own

    def _mood(self, of: dict[str, list[str]]) -> Said:
        mood = self.rng.choice(of["m"])
        phrases: list[str] = self.phrases["moods"].get(mood[2:])
        if phrases and self.rng.random() < 0.7:
            return self.rng.choice(phrases), {mood}
        return self._template("mood", m=self._adjective(mood)), {mood}

    def _two_moods(self, of: dict[str, list[str]]) -> Said:
        mood, other = self.rng.sample(of["m"], 2)
        return self._template("two_moods", m=self._adjective(mood), n=self._adjective(other)), {mood, other}

    def _kind_of(self, form: str, of: dict[str, list[str]]) -> Said:
        """A genre or topic: by its own name in half of the draws, and in a quarter by another word that stands alone."""
        genre, bank = self.rng.choice(of["g"]), f"{form}s"
        others = self.phrases[bank].get(genre[2:].split(" | ")[0])
        if others and self.rng.random() < 0.25:
            return self.rng.choice(others["names"] + others["queries"]), {genre}
        return self._template(form, x=self._named(genre, bank, 1 / 3)), {genre}

    def _decade(self, of: dict[str, list[str]]) -> Said:
        decade = self.rng.choice(of["d"])
        eras = self.phrases["eras"].get(decade[2:])
        if eras and self.rng.random() < 0.3:
            return self.rng.choice(eras).format(x=self.rng.choice(["music", "songs", "hits"])), {decade}
        return self._template("decade", d=self._decade_name(decade)), {decade}

    def _decade_name(self, decade: str) -> str:
        names: list[str] = self.phrases["decades"].get(decade[2:]) or [f"{decade[2:]}s"]
        return self.rng.choice(names)

    def _decade_genre(self, of: dict[str, list[str]]) -> Said:
        decade, genre = self.rng.choice(of["d"]), self.rng.choice(of["g"])
        eras, name = self.phrases["eras"].get(decade[2:]), self._named(genre)
        if eras and self.rng.random() < 0.2:
            return self.rng.choice(eras).format(x=name), {decade, genre}
        return self._template("decade_genre", d=self._decade_name(decade), x=name), {decade, genre}

    def _mood_genre(self, of: dict[str, list[str]]) -> Said:
        mood, genre = self.rng.choice(of["m"]), self.rng.choice(of["g"])
        return self._template("mood_genre", m=self._adjective(mood), x=self._named(genre)), {mood, genre}

    def _podcast_mood(self, of: dict[str, list[str]]) -> Said:
        mood = self.rng.choice(of["m"])
        return self._template("podcast_mood", m=self._adjective(mood, "podcast_moods")), {mood}

    def _podcast_mood_topic(self, of: dict[str, list[str]]) -> Said:
        mood, topic = self.rng.choice(of["m"]), self.rng.choice(of["g"])
        words = {"m": self._adjective(mood, "podcast_moods"), "x": self._named(topic, "topics")}
        return self._template("podcast_mood_topic", **words), {mood, topic}
