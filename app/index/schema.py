"""An item as an index point: its payload, the names it answers to and what is indexed. Shared by every adapter."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from app.domain import Item
from app.index.ngrams import words
from app.text import fold

DENSE = "meaning"  # the item's embedding
NAME = "name"  # sparse: trigrams and words of title, artist and album
TAGS = "tags"  # sparse: words of genres, moods, kind, year and decade

_BRACKETED = re.compile(r"\s*[(\[][^)\]]*[)\]]\s*")


def name_key(text: str) -> str:
    """A name as it is compared: folded, without spaces and punctuation (``AC/DC``, ``ac dc`` and ``acdc`` are one)."""
    return "".join(words(fold(text)))


def point_id(item_id: str) -> int:
    """The 63-bit point number of an item id: the same in every build, so that an item can be replaced in place."""
    return int.from_bytes(hashlib.blake2b(item_id.encode(), digest_size=8).digest(), "big") >> 1


def title_names(item: Item) -> list[str]:
    """Keys under which the item itself is looked for: title, title without bracketed parts, each with the artist."""
    full = name_key(item.title)
    titles = [full]
    if (short := name_key(_BRACKETED.sub(" ", item.title))) and short != full:
        titles.append(short)
    names = list(titles)
    for artist in artist_names(item):
        for title in titles:
            names += [title + artist, artist + title]
    return list(dict.fromkeys(names))


def artist_names(item: Item) -> list[str]:
    """Keys of the artist: as written, and without a leading article."""
    key = name_key(item.artist)
    folded = fold(item.artist)
    return [key, name_key(folded[4:])] if folded.startswith("the ") else [key] if key else []


def to_payload(item: Item) -> dict[str, Any]:
    """The payload of an item's point, JSON types only."""
    return {
        "id": item.id,
        "kind": item.kind,
        "title": item.title,
        "artist": item.artist,
        "album": item.album,
        "year": item.year,
        "genres": list(item.genres),
        "moods": list(item.moods),
        "popularity": item.popularity,
        "extra": item.extra,
        "genre_keys": [fold(genre) for genre in item.genres],
        "title_names": title_names(item),
        "artist_names": artist_names(item),
    }


def to_item(payload: Mapping[str, Any]) -> Item:
    """The item of a point's payload.

    Raises:
        KeyError: the payload was not written by `to_payload`.
    """
    return Item(
        id=payload["id"],
        title=payload["title"],
        kind=payload["kind"],
        artist=payload["artist"],
        album=payload["album"],
        year=payload["year"],
        genres=tuple(payload["genres"]),
        moods=tuple(payload["moods"]),
        popularity=payload["popularity"],
        extra=payload["extra"],
    )
