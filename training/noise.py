"""The noise model: how people mistype names.

`corrupt(text, rng)` is pure in its arguments: the same text and the same generator state give the same typo. There is one
operator for each kind of error in `training/edits.py`. Which kind, how many errors and where in a word come from `noise.json`;
which letters are lost, added and confused comes from the channel's confusion tables. Both are fitted to real misspellings by
`searchbar train noise` (training/noise_fit.py).
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from itertools import accumulate, pairwise
from pathlib import Path

from app.channel import ALPHABET, FITTED, Channel, symbol
from training.edits import KINDS, MARKS, NEIGHBOURS, SOUNDS, VOWELS

WEIGHTS = Path(__file__).parent / "noise.json"
LETTERS = ALPHABET[1:27]
TRIES = 8
SWAPS = [pair for a, b in SOUNDS for pair in ((a, b), (b, a)) if pair[0]]
MARK_SWAPS = [pair for a, b in MARKS for pair in ((a, b), (b, a))]

Rng = random.Random
Operator = Callable[[str, Rng], str]


@dataclass(frozen=True, slots=True)
class Choice:
    """Letters to draw from, with their weights."""

    letters: str
    cumulative: tuple[float, ...]
    total: float

    @classmethod
    def of(cls, weights: Mapping[str, float]) -> Choice:
        found = {c: w for c, w in weights.items() if w > 0}
        cumulative = tuple(accumulate(found.values()))
        return cls("".join(found), cumulative, cumulative[-1] if cumulative else 0.0)

    def draw(self, rng: Rng) -> str:
        return rng.choices(self.letters, cum_weights=self.cumulative)[0] if self.letters else ""


class Noise:
    """Typing errors with fitted weights.

    Args:
        channel: whose confusion tables say which letters are lost, added and taken for one another.
        weights: share of each kind among single errors.
        edits: probability of one, two, three… errors in a name that has some.
        first_letter: how often the first letter of a word is mistyped, relative to the others.
    """

    def __init__(self, channel: Channel, weights: Mapping[str, float], edits: list[float], first_letter: float) -> None:
        self.weights = {kind: weights[kind] for kind in KINDS}
        self.edits = edits
        self.first_letter = first_letter
        self._operators = self._build(channel)
        self._cumulative = list(accumulate(self.weights.values()))

    @classmethod
    def load(cls, path: Path = WEIGHTS, channel: Path = FITTED) -> Noise:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return cls(Channel.load(channel), stored["kinds"], stored["edits"], stored["first_letter"])

    def corrupt(self, text: str, rng: Rng, edits: int | None = None) -> str:
        """`text` with `edits` typing errors, drawn by their fitted share when None.

        Args:
            text: folded text (see `app.text.fold`).
            rng: the only source of randomness.
            edits: how many errors; the Damerau distance of the result can be larger (`ph` for `f`) and is 0 only where no
                operator applies, as in a text without letters.
        """
        wanted = edits if edits is not None else 1 + rng.choices(range(len(self.edits)), self.edits)[0]
        if len(text) < 4:
            wanted = min(wanted, 1)
        typed = text
        for _ in range(wanted):
            before = typed
            for _ in range(TRIES):
                (operator,) = rng.choices(self._operators, cum_weights=self._cumulative)
                typed = " ".join(operator(before, rng).split())
                if typed not in (before, text, ""):
                    break
            else:
                typed = before
        return typed

    @property
    def operators(self) -> dict[str, Operator]:
        return dict(zip(self.weights, self._operators, strict=True))

    def _build(self, channel: Channel) -> list[Operator]:
        def odds(cost: float | None) -> float:
            return 0.0 if cost is None else math.exp(-cost)

        deletion = {pair: odds(cost) for pair, cost in channel.delete.items()}
        top = max(deletion.values())
        lost = {pair: share / top for pair, share in deletion.items()}
        added = {c: Choice.of({b: odds(channel.insert.get(c + b)) for b in LETTERS}) for c in ALPHABET}
        swapped = {
            c: {b: odds(channel.substitute.get(c + b)) for b in LETTERS if b != c} for c in LETTERS
        }  # fmt: skip
        vowels = {c: Choice.of({b: w for b, w in swapped[c].items() if b in VOWELS}) for c in VOWELS}
        others = {
            c: Choice.of({b: w for b, w in row.items() if not (b in VOWELS and c in VOWELS) and b not in NEIGHBOURS[c]})
            for c, row in swapped.items()
        }  # fmt: skip
        doubled = {c: odds(channel.insert.get(c + c)) for c in LETTERS}
        most = max(doubled.values())
        operators: dict[str, Operator] = {
            "omission": partial(self._omit, lost),
            "insertion": partial(self._insert, added),
            "neighbouring key": self._neighbour,
            "fat finger": self._fat_finger,
            "substitution": partial(self._substitute, others),
            "vowel": partial(self._substitute, vowels),
            "transposition": self._transpose,
            "doubling": partial(self._double, {c: w / most for c, w in doubled.items()}),
            "undoubling": self._undouble,
            "sound-alike": partial(self._swap, SWAPS),
            "space dropped": self._drop_space,
            "space added": self._add_space,
            "punctuation": self._punctuate,
            "diacritic": partial(self._swap, MARK_SWAPS),
            "and/&": self._and,
        }
        return [operators[kind] for kind in KINDS]

    def _spot(self, spots: list[int], text: str, rng: Rng) -> int | None:
        """One of `spots`, the first letter of a word less often than the others."""
        if not spots:
            return None
        i = rng.choice(spots)
        if (i == 0 or text[i - 1] == " ") and rng.random() > self.first_letter:
            i = rng.choice(spots)
        return i

    def _letter(self, text: str, rng: Rng, accept: Mapping[str, float] | None = None, pairs: bool = False) -> int | None:
        """A letter's position, likelier where `accept` (by letter, or by the pair that it ends) is larger."""
        spots = [i for i, c in enumerate(text) if c.isalpha()]
        i = None
        for _ in range(TRIES):
            i = self._spot(spots, text, rng)
            if i is None or accept is None:
                return i
            key = (symbol(text[i - 1]) if i else " ") + symbol(text[i]) if pairs else text[i]
            if rng.random() < accept.get(key, 0.0):
                break
        return i

    def _omit(self, lost: Mapping[str, float], text: str, rng: Rng) -> str:
        i = self._letter(text, rng, lost, pairs=True)
        return text if i is None else text[:i] + text[i + 1 :]

    def _insert(self, added: Mapping[str, Choice], text: str, rng: Rng) -> str:
        i = self._letter(text, rng)
        if i is None:
            return text
        letter = added[symbol(text[i])].draw(rng)
        return text[: i + 1] + letter + text[i + 1 :]

    def _neighbour(self, text: str, rng: Rng) -> str:
        i = self._letter(text, rng)
        return text if i is None or text[i] not in NEIGHBOURS else text[:i] + rng.choice(NEIGHBOURS[text[i]]) + text[i + 1 :]

    def _fat_finger(self, text: str, rng: Rng) -> str:
        i = self._letter(text, rng)
        if i is None or text[i] not in NEIGHBOURS:
            return text
        at = i + rng.randint(0, 1)
        return text[:at] + rng.choice(NEIGHBOURS[text[i]]) + text[at:]

    def _substitute(self, choices: Mapping[str, Choice], text: str, rng: Rng) -> str:
        i = self._spot([i for i, c in enumerate(text) if c in choices], text, rng)
        return text if i is None else text[:i] + (choices[text[i]].draw(rng) or text[i]) + text[i + 1 :]

    def _transpose(self, text: str, rng: Rng) -> str:
        pairs = pairwise(text)
        i = self._spot([i for i, (a, b) in enumerate(pairs) if a != b and a.isalpha() and b.isalpha()], text, rng)
        return text if i is None else text[:i] + text[i + 1] + text[i] + text[i + 2 :]

    def _double(self, doubled: Mapping[str, float], text: str, rng: Rng) -> str:
        i = self._letter(text, rng, doubled)
        return text if i is None else text[:i] + text[i] + text[i:]

    def _undouble(self, text: str, rng: Rng) -> str:
        i = self._spot([i for i in range(1, len(text)) if text[i] == text[i - 1] and text[i].isalpha()], text, rng)
        return text if i is None else text[:i] + text[i + 1 :]

    def _swap(self, pairs: list[tuple[str, str]], text: str, rng: Rng) -> str:
        options = [(a, b) for a, b in pairs if a in text]
        if not options:
            return text
        a, b = rng.choice(options)
        i = self._spot([i for i in range(len(text)) if text.startswith(a, i)], text, rng)
        return text if i is None else text[:i] + b + text[i + len(a) :]

    def _drop_space(self, text: str, rng: Rng) -> str:
        return _at([i for i, c in enumerate(text) if c == " "], rng, lambda i: text[:i] + text[i + 1 :]) or text

    def _add_space(self, text: str, rng: Rng) -> str:
        inside = [i for i in range(1, len(text)) if text[i - 1].isalpha() and text[i].isalpha()]
        return _at(inside, rng, lambda i: f"{text[:i]} {text[i:]}") or text

    def _punctuate(self, text: str, rng: Rng) -> str:
        """A mark lost or turned into a space; where there is none, an apostrophe before a final s."""
        marks = [i for i, c in enumerate(text) if not c.isalnum() and c != " "]
        ends = [i for i in range(2, len(text)) if text[i] == "s" and text[i - 1].isalpha() and text[i + 1 : i + 2] in ("", " ")]
        gap = " " if rng.random() < 0.3 else ""
        lost = _at(marks, rng, lambda i: text[:i] + gap + text[i + 1 :])
        return lost or _at(ends, rng, lambda i: f"{text[:i]}'{text[i:]}") or text

    def _and(self, text: str, rng: Rng) -> str:
        for this, that in ((" & ", " and "), (" and ", " & ")):
            if this in text:
                return text.replace(this, that if rng.random() < 0.8 else " n ", 1)
        return text


def _at(spots: list[int], rng: Rng, change: Callable[[int], str]) -> str | None:
    return change(rng.choice(spots)) if spots else None


@cache
def fitted() -> Noise:
    """The noise with this project's fitted weights, read once."""
    return Noise.load()


def corrupt(text: str, rng: Rng, edits: int | None = None) -> str:
    """`Noise.corrupt` with the fitted weights."""
    return fitted().corrupt(text, rng, edits)
