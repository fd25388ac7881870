"""What of an item is embedded. Training and indexing import the same function, so that neither drifts from the other."""

from __future__ import annotations

from app.domain import Item
from app.text import fold

MAX_NAME_CHARS = 200  # a longer title or artist would push genres and moods past the embedder's last token


def passage_text(item: Item) -> str:
    """The folded passage of an item; parts it does not have are left out.

    ============  =====================================================  =========================================
    kind          shape                                                  example
    ============  =====================================================  =========================================
    track         ``title by artist. genres. moods. decade``             ``halo by beyonce. pop, r&b. epic. 2000s``
    artist        ``title artist. genres. moods. decade``                ``abba artist. pop, disco``
    all others    ``title kind by artist. genres. moods. decade``        ``up first podcast by npr. news, politics``
    ============  =====================================================  =========================================

    A podcast's artist is its publisher and its genres are its topics; it has no decade: the year it began says nothing
    about what it is.
    """
    name = item.title[:MAX_NAME_CHARS]
    if item.kind != "track":
        name += f" {item.kind}"
    if item.artist and item.kind != "artist":
        name += f" by {item.artist[:MAX_NAME_CHARS]}"
    parts = [name, ", ".join(item.genres), ", ".join(item.moods)]
    if item.year is not None and item.kind != "podcast":
        parts.append(f"{item.year // 10 * 10}s")
    return fold(". ".join(part for part in parts if part))
