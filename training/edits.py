"""What kind of typing error turned a name into what was typed.

Kinds follow Damerau (1964) and the keyboard and phonetic classes of query logs; `KINDS` lists them all.
"""

from __future__ import annotations

from collections.abc import Iterable

from app.channel import Channel, Edit

VOWELS = "aeiouy"
QWERTY_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
# Spellings of one sound, either way round; the shorter may be silent.
SOUNDS = (
    ("ph", "f"), ("ie", "ei"), ("ck", "k"), ("ck", "c"), ("qu", "kw"), ("qu", "k"), ("x", "ks"), ("x", "cks"), ("kn", "n"),
    ("wr", "r"), ("wh", "w"), ("gh", "g"), ("gh", ""), ("mb", "m"), ("th", "t"), ("rh", "r"), ("ch", "k"), ("ch", "sh"),
    ("sch", "sh"), ("tch", "ch"), ("dg", "g"), ("dge", "ge"), ("tion", "sion"), ("tion", "shun"), ("sc", "s"), ("ps", "s"),
    ("ee", "ea"), ("ee", "ie"), ("ee", "i"), ("oo", "u"), ("oo", "ou"), ("ou", "u"), ("ou", "o"), ("ai", "ay"), ("ai", "ei"),
    ("ay", "ey"), ("ey", "y"), ("ie", "y"), ("igh", "y"), ("ight", "ite"), ("au", "o"), ("aw", "au"), ("aw", "o"), ("er", "or"),
    ("er", "ar"), ("er", "re"), ("er", "a"), ("le", "el"), ("le", "al"), ("ea", "e"), ("ew", "u"), ("eau", "o"), ("eu", "u"),
    ("oe", "e"), ("z", "s"), ("c", "k"), ("c", "s"), ("j", "g"), ("v", "f"), ("w", "v"), ("d", "t"), ("b", "p"), ("m", "n"),
)  # fmt: skip
# A letter with a mark written out: fold() drops marks on both sides, so that what is left to mistype is ö → oe.
MARKS = (("oe", "o"), ("ae", "a"), ("ue", "u"), ("aa", "a"), ("ss", "s"), ("nj", "n"))
KINDS = (
    "omission", "insertion", "neighbouring key", "fat finger", "substitution", "vowel", "transposition", "doubling",
    "undoubling", "sound-alike", "space dropped", "space added", "punctuation", "diacritic", "and/&",
)  # fmt: skip


def _neighbours() -> dict[str, str]:
    """Keys that touch on a QWERTY board, by letter: same row ±1, rows above and below at the half-key stagger."""
    near: dict[str, str] = {}
    for r, row in enumerate(QWERTY_ROWS):
        for c, key in enumerate(row):
            around = [row[c - 1 : c] if c else "", row[c + 1 : c + 2]]
            if r > 0:
                around.append(QWERTY_ROWS[r - 1][c : c + 2])
            if r < 2:
                around.append(QWERTY_ROWS[r + 1][max(c - 1, 0) : c + 1])
            near[key] = "".join(around)
    return near


NEIGHBOURS = _neighbours()
_SOUNDS = {pair for a, b in SOUNDS for pair in ((a, b), (b, a)) if a and b and len(a) + len(b) > 2}
_SINGLE_SOUNDS = {pair for a, b in SOUNDS for pair in ((a, b), (b, a)) if len(a) == len(b) == 1}
_MARKS = {pair for a, b in MARKS for pair in ((a, b), (b, a))}


def kinds(typed: str, meant: str, channel: Channel) -> tuple[str, ...]:
    """The kind of each typing error between two folded texts, in order; empty for equal texts."""
    if typed == meant:
        return ()
    if typed.replace(" & ", " and ") == meant.replace(" & ", " and "):
        return ("and/&",)
    found: list[str] = []
    for group in grouped(channel.edits(typed, meant)):
        whole = _whole(group, meant)
        found += [whole] if whole else [_kind(edit, meant) for edit in group]
    return tuple(found)


def grouped(edits: Iterable[Edit]) -> list[list[Edit]]:
    """Edits that touch one another, together."""
    groups: list[list[Edit]] = []
    for edit in edits:
        if groups and edit.position - (groups[-1][-1].position + len(groups[-1][-1].meant)) <= 0:
            groups[-1].append(edit)
        else:
            groups.append([edit])
    return groups


def _whole(group: list[Edit], meant: str) -> str | None:
    """The kind of several touching edits taken as one spelling of a sound for another, with at most one letter around them."""
    start, end = group[0].position, group[-1].position + len(group[-1].meant)
    wanted, typed, at = meant[start:end], "", start
    for edit in group:
        typed += meant[at : edit.position] + edit.typed
        at = edit.position + len(edit.meant)
    if len(group) == 1 and _kind(group[0], meant) not in ("omission", "insertion", "fat finger"):
        return None
    for left in (0, 1):
        for right in (0, 1):
            before, after = meant[max(start - left, 0) : start], meant[end : end + right]
            pair = (before + wanted + after, before + typed + after)
            if pair in _MARKS:
                return "diacritic"
            if pair in _SOUNDS:
                return "sound-alike"
    return None


def _kind(edit: Edit, meant: str) -> str:
    after = meant[edit.position + len(edit.meant) : edit.position + len(edit.meant) + 1]
    if edit.kind == "transpose":
        return "transposition"
    if edit.kind == "insert":
        return _insertion(edit.typed, edit.before, after)
    if edit.kind == "delete":
        return _omission(edit.meant, edit.before, after)
    if edit.typed == " " or edit.meant == " " or not (edit.typed.isalnum() and edit.meant.isalnum()):
        return "punctuation"
    if edit.typed in VOWELS and edit.meant in VOWELS:
        return "vowel"
    if (edit.meant, edit.typed) in _SINGLE_SOUNDS:
        return "sound-alike"
    return "neighbouring key" if edit.typed in NEIGHBOURS.get(edit.meant, "") else "substitution"


def _insertion(typed: str, before: str, after: str) -> str:
    if typed == " ":
        return "space added"
    if not typed.isalnum():
        return "punctuation"
    if typed in (before, after):
        return "doubling"
    return "fat finger" if typed in NEIGHBOURS.get(before, "") + NEIGHBOURS.get(after, "") else "insertion"


def _omission(meant: str, before: str, after: str) -> str:
    if meant == " ":
        return "space dropped"
    if not meant.isalnum():
        return "punctuation"
    return "undoubling" if meant in (before, after) else "omission"
