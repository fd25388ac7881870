"""What every `VectorIndex` adapter must do, on the same small catalogue with a deterministic embedding."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import pytest_asyncio

from app.domain import Filters, Hit, IndexQuery, Item, Vector
from app.errors import IndexUnavailable
from app.index.address import ClusterAddress, Layout
from app.index.base import VectorIndex
from app.index.cluster import ClusterIndex
from app.index.cluster_engine import Connection, Server
from app.index.cluster_local import LocalServer
from app.index.cluster_writer import ClusterWriter
from app.index.edge import EdgeIndex
from app.index.edge_writer import EdgeWriter
from app.index.manifest import Manifest
from app.index.passage import passage_text
from app.index.process import IndexProcess
from tests.contract.grpc_qdrant import KEY, grpc_qdrant

DIMENSIONS = 64
ALL = Filters()

CATALOGUE = (
    Item("bohemian", "Bohemian Rhapsody", "track", "Queen", "A Night at the Opera", 1975, ("rock",), ("epic",), 98.0,
         {"isrc": "GBUM"}),
    Item("queen", "Queen", "artist", "Queen", genres=("rock",), popularity=90.0),
    Item("killer", "Killer Queen", "track", "Queen", "Sheer Heart Attack", 1974, ("rock", "Glam Rock"), ("happy",), 80.0),
    Item("hello-adele", "Hello", "track", "Adele", "25", 2015, ("pop", "soul"), ("sad", "heartbreak"), 93.0),
    Item("hello-lionel", "Hello", "track", "Lionel Richie", "Can't Slow Down", 1983, ("pop", "soul"), ("sad", "romantic"),
         85.0),
    Item("tears", "Tears in Heaven", "track", "Eric Clapton", "Rush", 1992, ("rock",), ("sad", "rainy day"), 84.0),
    Item("rainy", "Rainy Days and Mondays", "track", "Carpenters", "Carpenters", 1971, ("pop",), ("melancholic",), 60.0),
    Item("walking", "Walking on Sunshine", "track", "Katrina & the Waves", year=1983, genres=("pop",), moods=("happy",),
         popularity=75.0),
    Item("thunder", "Thunderstruck", "track", "AC/DC", "The Razors Edge", 1990, ("hard rock",), ("energetic",), 92.0),
    Item("blink", "All the Small Things", "track", "blink-182", year=1999, genres=("pop punk",), moods=("party",),
         popularity=88.0),
    Item("daily", "The Daily", "podcast", "The New York Times", year=2017, genres=("news", "politics"), popularity=95.0),
    Item("heroes", '"Heroes"', "album", "David Bowie", '"Heroes"', 1977, ("art rock",), popularity=70.0),
    Item("chk", "!!!", "artist", "!!!", genres=("dance-punk",), popularity=28.0),
)  # fmt: skip


def embed(text: str) -> Vector:
    """A stand-in embedding: the sum of a fixed direction for each word, so that shared words mean nearness."""
    total = np.zeros(DIMENSIONS, np.float32)
    for word in text.replace(",", " ").replace(".", " ").split():
        seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=4).digest(), "big")
        total += np.random.default_rng(seed).standard_normal(DIMENSIONS).astype(np.float32)
    return total / (np.linalg.norm(total) or 1.0)


Open = Callable[[], Awaitable[VectorIndex]]
Opened = TypeVar("Opened")


def at_once(opening: Callable[[], Opened]) -> Callable[[], Awaitable[Opened]]:
    """`opening` as the adapters that take a while to open have it."""

    async def opened() -> Opened:
        return opening()

    return opened


@contextmanager
def edge(directory: Path) -> Iterator[Open]:
    """Build the catalogue's embedded index; every test opens it anew."""
    writer = EdgeWriter(directory, DIMENSIONS)
    writer.add(CATALOGUE, np.stack([embed(passage_text(item)) for item in CATALOGUE]))
    writer.finish(Manifest(DIMENSIONS, "words", len(CATALOGUE), "2026-01-01T00:00:00+00:00", "contract"))
    writer.close()
    yield at_once(lambda: EdgeIndex.open(directory))


@contextmanager
def process(directory: Path) -> Iterator[Open]:
    """The same, answered by a process of its own."""
    with edge(directory):
        yield lambda: IndexProcess.start(directory)


@contextmanager
def cluster(directory: Path) -> Iterator[Open]:
    """Build the catalogue's index on a server in memory; what that leaves out is listed in `LocalServer`."""
    yield on_server(LocalServer())


@contextmanager
def cluster_grpc(directory: Path) -> Iterator[Open]:
    """The same, each request and answer through gRPC; see `grpc_qdrant` for what that proves."""
    with grpc_qdrant() as (port, _, _):
        yield on_server(Server(ClusterAddress("127.0.0.1", "catalogue", grpc_port=port), KEY, 60.0))


def on_server(server: Connection) -> Open:
    writer = ClusterWriter(server, "catalogue", DIMENSIONS, Layout())
    writer.add(CATALOGUE, np.stack([embed(passage_text(item)) for item in CATALOGUE]))
    writer.finish(Manifest(DIMENSIONS, "words", len(CATALOGUE), "2026-01-01T00:00:00+00:00", "contract"))
    writer.close()
    return at_once(lambda: ClusterIndex.open(server, "catalogue"))


ADAPTERS = [
    pytest.param(edge, id="edge"),
    pytest.param(process, id="process"),
    pytest.param(cluster, id="cluster"),
    pytest.param(cluster_grpc, id="cluster-grpc"),
]


@pytest.fixture(scope="module", params=ADAPTERS)
def opener(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    build: Callable[[Path], AbstractContextManager[Open]] = request.param
    with build(tmp_path_factory.mktemp("index")) as opener:
        yield opener


@pytest_asyncio.fixture
async def index(opener: Open) -> AsyncIterator[VectorIndex]:
    opened = await opener()
    yield opened
    await opened.close()


async def ask(index: VectorIndex, text: str, *, dense: bool = True, limit: int = 5, filters: Filters = ALL) -> list[Hit]:
    [hits] = await index.query([IndexQuery(text, embed(text) if dense else None, limit, filters)])
    return hits


def ids(hits: list[Hit]) -> list[str]:
    return [hit.item.id for hit in hits]


@pytest.mark.asyncio
@pytest.mark.parametrize("dense", [pytest.param(True, id="hybrid"), pytest.param(False, id="words alone")])
@pytest.mark.parametrize(
    ("query", "first"),
    [
        pytest.param("bohemian rhapsody", "bohemian", id="title"),
        pytest.param("bohemian rapsody", "bohemian", id="typo"),
        pytest.param("bohem", "bohemian", id="unfinished"),
        pytest.param("queen bohemian rhapsody", "bohemian", id="artist and title"),
        pytest.param("queen", "queen", id="artist before songs"),
        pytest.param("killer queen", "killer", id="longer title"),
        pytest.param("hello", "hello-adele", id="most popular of a name"),
        pytest.param("hello lionel richie", "hello-lionel", id="the other of a name"),
        pytest.param("ac/dc", "thunder", id="punctuation"),
        pytest.param("acdc", "thunder", id="punctuation left out"),
        pytest.param("blink 182", "blink", id="space for hyphen"),
        pytest.param("heroes", "heroes", id="quotation marks"),
        pytest.param("!!!", "chk", id="nothing but punctuation"),
        pytest.param("news podcasts", "daily", id="kind and topic"),
    ],
)
async def test_names_come_first(index: VectorIndex, query: str, first: str, dense: bool) -> None:
    """A name, also misspelt or unfinished, must give its item first, with and without an embedding."""
    assert ids(await ask(index, query, dense=dense))[0] == first


@pytest.mark.asyncio
async def test_the_embedding_finds_what_no_word_names(index: VectorIndex) -> None:
    """A query by vector alone must return the nearest item, found by meaning."""
    [hits] = await index.query([IndexQuery("", embed("sad rainy day 1990s"), 3)])
    assert hits[0].item.id == "tears"
    assert all(hit.matched_by == ("meaning",) for hit in hits)


@pytest.mark.asyncio
async def test_hits_say_what_matched(index: VectorIndex) -> None:
    """`matched_by` must name title and artist when the query's words are theirs, and the sides that found the hit."""
    [first, *_] = await ask(index, "bohemian rapsody queen")
    assert first.matched_by == ("title", "artist", "text", "meaning")
    [first, *_] = await ask(index, "adele", dense=False)
    assert first.matched_by == ("artist", "text")


@pytest.mark.asyncio
async def test_hits_are_ordered_whole_and_at_most_as_many_as_asked(index: VectorIndex) -> None:
    """Scores fall, the limit holds, no item comes twice, and a hit carries its item unchanged."""
    for limit in (1, 3, 100):
        hits = await ask(index, "queen", limit=limit)
        assert len(hits) <= limit
        assert len(set(ids(hits))) == len(hits)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    [first, *_] = await ask(index, "bohemian rhapsody")
    assert first.item == CATALOGUE[0]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("filters", "allowed"),
    [
        pytest.param(Filters(kinds=("artist", "podcast")), {"queen", "daily", "chk"}, id="kinds"),
        pytest.param(Filters(genres=("GLAM rock", "hard rock")), {"killer", "thunder"}, id="any genre, any case"),
        pytest.param(Filters(year_gte=1983, year_lte=1990), {"hello-lionel", "walking", "thunder"}, id="years, ends included"),
        pytest.param(Filters(year_gte=2015), {"hello-adele", "daily"}, id="open year range leaves out what has no year"),
        pytest.param(Filters(kinds=("track",), genres=("rock",), year_lte=1974), {"killer"}, id="all together"),
        pytest.param(Filters(genres=("polka",)), set(), id="none left"),
    ],
)
async def test_filters_hold_for_every_side(index: VectorIndex, filters: Filters, allowed: set[str]) -> None:
    """Every hit meets the filters, and every item that meets them is still found, also under an exact name."""
    assert set(ids(await ask(index, "queen", limit=100, filters=filters))) == allowed


@pytest.mark.asyncio
async def test_a_batch_is_answered_in_order(index: VectorIndex) -> None:
    """Forty queries in one call must get the answers they get alone, in their order; no queries get none."""
    texts = ["hello", "queen", "thunder", "rainy days and mondays"] * 10
    batch = await index.query([IndexQuery(text, embed(text), 3) for text in texts])
    assert [ids(hits) for hits in batch] == [ids(await ask(index, text, limit=3)) for text in texts]
    assert await index.query([]) == []


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "text",
    ["", " ", "\u0000", "🎵🎵", "\ufffd", "ال", "a" * 256, " ".join("abcdefghij" * 12), '"', "%", "'; --", "\\", "^$"],
)
async def test_any_text_is_answered(index: VectorIndex, text: str) -> None:
    """Whatever a client can type must give a list, with and without a vector."""
    for vector in (None, embed("x")):
        [hits] = await index.query([IndexQuery(text, vector, 5)])
        assert len(hits) <= 5
    [hits] = await index.query([IndexQuery("", None, 5)])
    assert hits == []


@pytest.mark.asyncio
async def test_it_knows_its_items(index: VectorIndex) -> None:
    """`count`, `dimensions` and `items` must agree with what was written."""
    assert (await index.count(), index.dimensions) == (len(CATALOGUE), DIMENSIONS)
    items = {item.id: item async for item in index.items()}
    assert items == {item.id: item for item in CATALOGUE}


@pytest.mark.asyncio
async def test_a_vector_of_the_wrong_length_is_the_indexs_own_error(index: VectorIndex) -> None:
    """A vendor exception must not leave the adapter as such, nor break it for the next query."""
    with pytest.raises(IndexUnavailable):
        await index.query([IndexQuery("hello", np.ones(DIMENSIONS - 1, np.float32), 5)])
    assert await ask(index, "hello")


@pytest.mark.asyncio
async def test_concurrent_queries_do_not_mix(index: VectorIndex) -> None:
    """Answers to queries in flight together must be the ones each gets alone."""
    texts = ["hello", "queen", "thunderstruck", "heroes"] * 5
    answers = await asyncio.gather(*(ask(index, text) for text in texts))
    assert [ids(hits) for hits in answers] == [ids(await ask(index, text)) for text in texts]


@pytest.mark.asyncio
async def test_a_closed_index_says_so(index: VectorIndex) -> None:
    """After `close`, which may be called twice, every question must raise IndexUnavailable."""
    await index.close()
    await index.close()
    for question in (ask(index, "hello"), index.count()):
        with pytest.raises(IndexUnavailable, match="closed"):
            await question
    with pytest.raises(IndexUnavailable, match="closed"):
        await index.items().__anext__()
