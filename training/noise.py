"""The noise model: how people mistype names.

`corrupt(text, rng)` is pure in its arguments: the same text and the same generator state give the same typo. Operators
follow the error classes of Damerau (1964) and the phonetic and keyboard classes that query logs show. Their weights were set by
hand; fitting them to real misspellings is open work.
"""

from __future__ import annotations

import random
from collections.abc import Callable

QWERTY_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
VOWELS = "aeiou"
# Pairs that sound alike, tried in both directions.
PHONETIC = (
    ("ph", "f"), ("ie", "ei"), ("ck", "k"), ("c", "k"), ("c", "s"), ("s", "z"), ("y", "i"), ("ee", "ea"), ("ee", "ie"),
    ("oo", "u"), ("ou", "u"), ("ai", "ay"), ("ey", "y"), ("ight", "ite"), ("kn", "n"), ("wr", "r"), ("wh", "w"),
    ("gh", "g"), ("tion", "sion"), ("sh", "ch"), ("th", "t"), ("qu", "kw"), ("x", "ks"), ("mb", "m"), ("j", "g"),
    ("au", "o"), ("aw", "o"), ("er", "or"), ("er", "ar"), ("er", "re"), ("le", "el"), ("ey", "ie"), ("v", "f"), ("dg", "g"),
)  # fmt: skip


def _neighbours() -> dict[str, str]:
    """Keys that touch on a QWERTY board, by letter: same row ±1, rows above and below at the half-key stagger."""
    near: dict[str, str] = {}
    for r, row in enumerate(QWERTY_ROWS):
        for c, key in enumerate(row):
            around = [row[c - 1 : c], row[c + 1 : c + 2]]
            if r > 0:
                around.append(QWERTY_ROWS[r - 1][c : c + 2])
            if r < 2:
                around.append(QWERTY_ROWS[r + 1][max(c - 1, 0) : c + 1])
            near[key] = "".join(around)
    return near


NEIGHBOURS = _neighbours()


def _letters(text: str) -> list[int]:
    return [i for i, c in enumerate(text) if c.isalpha()]


def _pick(text: str, rng: random.Random) -> int | None:
    """A letter's position; the first letter of a word is mistyped a third as often as the others."""
    spots = _letters(text)
    if not spots:
        return None
    i = rng.choice(spots)
    if (i == 0 or text[i - 1] == " ") and rng.random() < 0.67:
        i = rng.choice(spots)
    return i


def omit(text: str, rng: random.Random) -> str:
    i = _pick(text, rng)
    return text if i is None else text[:i] + text[i + 1 :]


def insert(text: str, rng: random.Random) -> str:
    i = _pick(text, rng)
    if i is None:
        return text
    near = NEIGHBOURS.get(text[i], "")
    char = rng.choice(near) if near and rng.random() < 0.5 else rng.choice("abcdefghijklmnopqrstuvwxyz")
    i += rng.random() < 0.5
    return text[:i] + char + text[i:]


def substitute_neighbour(text: str, rng: random.Random) -> str:
    i = _pick(text, rng)
    if i is None or not NEIGHBOURS.get(text[i]):
        return text
    return text[:i] + rng.choice(NEIGHBOURS[text[i]]) + text[i + 1 :]


def substitute_any(text: str, rng: random.Random) -> str:
    i = _pick(text, rng)
    return text if i is None else text[:i] + rng.choice("abcdefghijklmnopqrstuvwxyz") + text[i + 1 :]


def confuse_vowel(text: str, rng: random.Random) -> str:
    spots = [i for i, c in enumerate(text) if c in VOWELS]
    if not spots:
        return text
    i = rng.choice(spots)
    return text[:i] + rng.choice(VOWELS.replace(text[i], "")) + text[i + 1 :]


def transpose(text: str, rng: random.Random) -> str:
    spots = [i for i in range(len(text) - 1) if text[i] != text[i + 1] and text[i].isalpha() and text[i + 1].isalpha()]
    if not spots:
        return text
    i = rng.choice(spots)
    return text[:i] + text[i + 1] + text[i] + text[i + 2 :]


def double(text: str, rng: random.Random) -> str:
    i = _pick(text, rng)
    return text if i is None else text[:i] + text[i] + text[i:]


def undouble(text: str, rng: random.Random) -> str:
    spots = [i for i in range(len(text) - 1) if text[i] == text[i + 1] and text[i].isalpha()]
    if not spots:
        return omit(text, rng)
    i = rng.choice(spots)
    return text[:i] + text[i + 1 :]


def sound_alike(text: str, rng: random.Random) -> str:
    options = [(a, b) for pair in PHONETIC for a, b in (pair, pair[::-1]) if a in text]
    if not options:
        return confuse_vowel(text, rng)
    a, b = rng.choice(options)
    spots = [i for i in range(len(text)) if text.startswith(a, i)]
    i = rng.choice(spots)
    return text[:i] + b + text[i + len(a) :]


def drop_space(text: str, rng: random.Random) -> str:
    spots = [i for i, c in enumerate(text) if c == " "]
    if not spots:
        return omit(text, rng)
    i = rng.choice(spots)
    return text[:i] + text[i + 1 :]


def add_space(text: str, rng: random.Random) -> str:
    spots = [i for i in range(1, len(text)) if text[i - 1].isalpha() and text[i].isalpha()]
    if not spots:
        return text
    i = rng.choice(spots)
    return text[:i] + " " + text[i:]


def drop_punctuation(text: str, rng: random.Random) -> str:
    spots = [i for i, c in enumerate(text) if not c.isalnum() and c != " "]
    if not spots:
        return omit(text, rng)
    i = rng.choice(spots)
    return " ".join((text[:i] + text[i + 1 :]).split())


def swap_and(text: str, rng: random.Random) -> str:
    if " & " in text:
        return text.replace(" & ", " and " if rng.random() < 0.7 else " n ")
    if " and " in text:
        return text.replace(" and ", " & " if rng.random() < 0.7 else " n ")
    return substitute_neighbour(text, rng)


# Share of each operator among single edits, set by hand.
WEIGHTS: dict[Callable[[str, random.Random], str], float] = {
    omit: 0.20,
    insert: 0.10,
    substitute_neighbour: 0.10,
    substitute_any: 0.06,
    confuse_vowel: 0.16,
    transpose: 0.09,
    double: 0.08,
    undouble: 0.09,
    sound_alike: 0.07,
    drop_space: 0.02,
    add_space: 0.01,
    drop_punctuation: 0.01,
    swap_and: 0.01,
}
OPERATORS = list(WEIGHTS)
CUMULATIVE = [sum(list(WEIGHTS.values())[: i + 1]) for i in range(len(WEIGHTS))]
EDITS = (1, 2, 3)
EDIT_SHARES = (0.68, 0.25, 0.07)


def corrupt(text: str, rng: random.Random, edits: int | None = None) -> str:
    """`text` with `edits` typing errors (1–3, drawn by `EDIT_SHARES` when None).

    Args:
        text: folded text (see `app.text.fold`).
        rng: the only source of randomness.
        edits: how many operators to apply; the Damerau distance of the result can be larger (a phonetic swap), and is 0 only
            where no operator applies: no letters, or now and then a single one.
    """
    wanted = edits if edits is not None else rng.choices(EDITS, EDIT_SHARES)[0]
    if len(text) < 4:
        wanted = min(wanted, 1)
    typed = text
    for _ in range(wanted):
        before = typed
        for _ in range(8):
            operator = rng.choices(OPERATORS, cum_weights=CUMULATIVE)[0]
            typed = operator(before, rng)
            if typed not in (before, text) and typed.strip():
                break
        else:
            typed = before
    return " ".join(typed.split())
