"""Sparse encodings of folded text: what finds a name through its typos, and a mood by its word.

Two sparse vectors for each item, both weighted by inverse document frequency inside the index:

``name``
    Character trigrams of each word of title and artist, with boundary marks (``^bi bil ill … ie$``), and each whole
    word: a typo changes at most three trigrams in a row, so a misspelt name keeps most of its vector.
``tags``
    The words of genres, moods, kind, year and decade: ``sad songs for a rainy day`` meets its items here even where
    no embedder is up.

Features are hashed to uint32 by CRC-32: the same on every machine and run, unlike `hash`.
"""

from __future__ import annotations

import string
from typing import NamedTuple
from zlib import crc32

from app.domain import Item, Kind
from app.text import fold

WORD_WEIGHT = 1.0  # of a whole word beside its trigrams
ALBUM_WEIGHT = 0.3  # of the album's trigrams beside those of title and artist
LENGTH_SHARE = 0.4  # how far long names are discounted: BM25's b (Robertson and Zaragoza 2009, section 3.4)
MEAN_FEATURES = 28.0  # of title and artist together, on the demo catalogue

_PUNCTUATION = str.maketrans("", "", string.punctuation + "¿¡·")
_KIND_WORDS: dict[Kind, str] = {
    "track": "track song music",
    "album": "album record music",
    "artist": "artist band singer music",
    "podcast": "podcast show episode",
    "playlist": "playlist mix music",
}


class Sparse(NamedTuple):
    """A sparse vector: uint32 indices, no two the same, and their values."""

    indices: list[int]
    values: list[float]


def words(text: str) -> list[str]:
    """The words of folded text without punctuation (``ac/dc`` → ``acdc``); a word of nothing else (``!!!``) is kept."""
    return [word.translate(_PUNCTUATION) or word for word in text.split()]


def name_features(text: str) -> dict[int, float]:
    """Hashed trigrams and words of folded text, and how often each occurs."""
    found: dict[int, float] = {}
    for word in words(text):
        padded = f"^{word}$".encode("utf-32-le")  # four bytes a character, so that slices fall between characters
        for at in range(0, len(padded) - 8, 4):
            feature = crc32(padded[at : at + 12])
            found[feature] = found.get(feature, 0.0) + 1.0
        feature = crc32(padded)
        found[feature] = found.get(feature, 0.0) + WORD_WEIGHT
    return found


def encode_name(query: str) -> Sparse:
    """The ``name`` vector of a folded query."""
    found = name_features(query)
    return Sparse(list(found), list(found.values()))


def encode_item_name(item: Item) -> Sparse:
    """The ``name`` vector of an item: title and artist, the album with less weight, long names discounted."""
    found = name_features(fold(f"{item.title} {item.artist}"))
    discount = 1.0 / (1.0 - LENGTH_SHARE + LENGTH_SHARE * len(found) / MEAN_FEATURES)
    values = {feature: discount * 2.0 * tf / (tf + 1.0) for feature, tf in found.items()}
    for feature in name_features(fold(item.album)):
        values.setdefault(feature, ALBUM_WEIGHT * discount)
    return Sparse(list(values), list(values.values()))


def encode_tags(query: str) -> Sparse:
    """The ``tags`` vector of a folded query; hyphenated words count in one and in two (``synth-pop``, ``synth pop``)."""
    found = {_tag(word): 1.0 for word in words(query.replace("-", " ") + " " + query if "-" in query else query)}
    return Sparse(list(found), list(found.values()))


def encode_item_tags(item: Item) -> Sparse:
    """The ``tags`` vector of an item: its genres, moods, kind, year and decade (``1980s`` and ``80s``)."""
    text = " ".join((*item.genres, *item.moods, _KIND_WORDS[item.kind]))
    if item.year is not None:
        decade = item.year // 10 * 10
        text += f" {item.year} {decade}s {decade % 100:02d}s"
    return encode_tags(fold(text))


def _tag(word: str) -> int:
    """The feature of a tag word: singular and plural share one."""
    return crc32((word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word).encode())
