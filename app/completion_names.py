"""The names that a listener may be typing, and the text in which they are compared with what is typed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from app.domain import Item, Kind
from app.text import fold

MAX_LENGTH = 256  # characters of a name that can be typed
END = "\n"  # after each name; lower than every character of a folded text

_APOSTROPHES = re.compile("'+")
_BREAKS = re.compile(r"[!-&(-/:-@\[-`{-~¡¿·\s]+")


@dataclass(frozen=True, slots=True)
class Completion:
    """A name in the catalogue's own spelling; `artist` is empty for all but tracks and albums."""

    kind: Kind
    text: str
    artist: str = ""


def comparable(text: str) -> str:
    """Folded `text` without punctuation, in which it is completed: ``Mr. Brightside`` → ``mr brightside``.

    Text of punctuation alone (``!!!``) is kept.
    """
    return _comparable(fold(text))


def spellings(text: str) -> tuple[str, ...]:
    """The ways in which a name may be begun: `comparable`, and with its signs left out (``AC/DC`` → ``ac dc``, ``acdc``)."""
    folded = fold(text)
    joined = " ".join(_BREAKS.sub("", word) for word in folded.replace("'", "").split())
    return tuple(dict.fromkeys(filter(None, (_comparable(folded), joined.strip()[:MAX_LENGTH]))))


def _comparable(folded: str) -> str:
    return (_BREAKS.sub(" ", _APOSTROPHES.sub("", folded)).strip() or folded)[:MAX_LENGTH]


def names(item: Item) -> Iterator[Completion]:
    """What an item can be typed as. The publisher of a podcast and the owner of a playlist are not artists."""
    yield Completion(item.kind, item.title, item.artist if item.kind in ("track", "album") else "")
    if item.kind in ("track", "album") and item.artist:
        yield Completion("artist", item.artist)
    if item.kind == "track" and item.album:
        yield Completion("album", item.album, item.artist)
