"""Text normalisation: the one place where typed text is made comparable.

Two pure functions. `normalise` is what every request goes through before anything else sees the query; `fold`
goes further and is the form in which names are compared, indexed, spelt and embedded.
"""

from __future__ import annotations

import unicodedata

_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "‛": "'", "ʼ": "'", "`": "'", "´": "'", "“": '"', "”": '"',
                              "–": "-", "—": "-", "‐": "-", "‑": "-", "…": "..."})  # fmt: skip
_LATIN_LETTERS = str.maketrans({"ø": "o", "đ": "d", "ð": "d", "ł": "l", "þ": "th", "æ": "ae", "œ": "oe",
                                "ı": "i", "ħ": "h"})  # fmt: skip


def normalise(text: str) -> str:
    """The canonical form of a query, accents kept. Total: any string a client can send has one.

    1. lone surrogates become U+FFFD, so that the text can be encoded;
    2. typographic quotes, dashes and ellipses become their ASCII forms;
    3. Unicode NFKC, then lower case by case folding (``ß`` → ``ss``), then NFKC again;
    4. control and format characters (categories Cc, Cf) become spaces, zero-width joiners inside words excepted;
    5. runs of whitespace become one space, the ends are stripped.

    Idempotent: ``normalise(normalise(x)) == normalise(x)``.
    """
    if text.isascii():  # nine queries in ten; NFKC and the translation tables leave ASCII alone but for ` → '
        text = text.replace("`", "'").lower()
    else:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        text = unicodedata.normalize("NFKC", text.translate(_APOSTROPHES)).casefold()
        text = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES)
    if not text.isprintable():
        text = "".join(" " if unicodedata.category(c) == "Cc" or c in "\u200b\ufeff\u2060\u00ad" else c for c in text)
    return " ".join(text.split())


def fold(text: str) -> str:
    """`normalise`, then Latin letters without their diacritics (``beyoncé`` → ``beyonce``, ``ø`` → ``o``).

    Marks on other scripts carry meaning (Devanagari vowels, Japanese voicing, Cyrillic й) and stay.
    """
    text = normalise(text)
    if text.isascii():
        return text
    out: list[str] = []
    latin = False
    for char in unicodedata.normalize("NFD", text.translate(_LATIN_LETTERS)):
        if unicodedata.combining(char):
            if latin:
                continue
        else:
            latin = "a" <= char <= "z"
        out.append(char)
    return unicodedata.normalize("NFC", "".join(out))


def same_reading(a: str, b: str) -> bool:
    """True when two texts differ in case, spacing or diacritics alone: not a spelling change a listener would see."""
    return fold(a).replace(" ", "") == fold(b).replace(" ", "")
