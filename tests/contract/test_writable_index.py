"""What every `WritableIndex` adapter must do beyond answering: the same catalogue, changed while it is open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from app.domain import Item
from app.errors import IndexUnavailable
from app.index.base import WritableIndex
from app.index.edge_live import LiveEdgeIndex
from app.index.passage import passage_text
from app.index.process import IndexProcess
from tests.contract.test_vector_index import CATALOGUE, DIMENSIONS, ask, at_once, cluster, cluster_grpc, edge, embed, ids

NEW = Item("zorblax", "Zorblax Quintessence", "track", "Vexillum Nine", year=2026, genres=("polka",), extra={"label": "x"})
OLD = CATALOGUE[0]

Open = Callable[[], Awaitable[WritableIndex]]


@contextmanager
def live_edge(directory: Path) -> Iterator[Open]:
    with edge(directory):
        yield at_once(lambda: LiveEdgeIndex.open(directory))


@contextmanager
def live_process(directory: Path) -> Iterator[Open]:
    with edge(directory):
        yield lambda: IndexProcess.start(directory, alone=True)


ADAPTERS = [
    pytest.param(live_edge, id="edge"),
    pytest.param(live_process, id="process"),
    pytest.param(cluster, id="cluster"),
    pytest.param(cluster_grpc, id="cluster-grpc"),
]


@pytest.fixture(params=ADAPTERS)
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    build: Callable[[Path], AbstractContextManager[Open]] = request.param
    with build(tmp_path) as opener:
        yield opener


@pytest_asyncio.fixture
async def index(opener: Open) -> AsyncIterator[WritableIndex]:
    opened = await opener()
    yield opened
    await opened.close()


async def put(index: WritableIndex, *items: Item) -> None:
    await index.upsert(items, np.stack([embed(passage_text(item)) for item in items]))


async def test_items_are_got_by_id(index: WritableIndex) -> None:
    """`get` gives the items as they were written and leaves unknown ids out."""
    found = await index.get([item.id for item in CATALOGUE] + ["unknown", ""])
    assert sorted(found, key=lambda item: item.id) == sorted(CATALOGUE, key=lambda item: item.id)
    assert await index.get([]) == []


async def test_an_added_item_is_found_at_once(index: WritableIndex) -> None:
    """By its name, a typo of it, its tags and its meaning; `count` and `items` know it too."""
    await put(index, NEW)
    for text in ("zorblax quintessence", "zorblax quintesence", "vexillum nine", "polka"):
        assert ids(await ask(index, text))[0] == "zorblax", text
    assert await index.get(["zorblax"]) == [NEW]
    assert await index.count() == len(CATALOGUE) + 1
    assert NEW in [item async for item in index.items()]


async def test_an_item_is_replaced_by_its_id(index: WritableIndex) -> None:
    """The new version answers to its new name and no longer to the old one; the rest stays as it was."""
    await put(index, replace(OLD, title="Zorblax Quintessence", artist="Vexillum Nine", genres=("polka",)))
    assert await index.count() == len(CATALOGUE)
    assert ids(await ask(index, "zorblax quintessence"))[0] == OLD.id
    assert OLD.id not in ids(await ask(index, "bohemian rhapsody", dense=False))
    assert ids(await ask(index, "hello"))[0] == "hello-adele"


async def test_a_removed_item_is_gone(index: WritableIndex) -> None:
    """No side finds it any more; unknown ids beside it do no harm."""
    await index.delete([OLD.id, "unknown"])
    await index.delete([])
    assert await index.get([OLD.id]) == []
    assert OLD.id not in ids(await ask(index, "bohemian rhapsody", limit=100))
    assert await index.count() == len(CATALOGUE) - 1


async def test_of_several_items_with_one_id_the_last_counts(index: WritableIndex) -> None:
    """In one call as in several."""
    await put(index, replace(NEW, title="First"), NEW)
    assert await index.get(["zorblax"]) == [NEW]
    assert await index.count() == len(CATALOGUE) + 1


async def test_changes_outlast_the_process_that_made_them(opener: Open) -> None:
    """What one opening wrote and removed the next one has."""
    first = await opener()
    await put(first, NEW, replace(OLD, year=1976))
    await first.delete(["queen"])
    await first.close()
    second = await opener()
    assert await second.count() == len(CATALOGUE)
    assert {item.id: item.year for item in await second.get(["zorblax", OLD.id, "queen"])} == {"zorblax": 2026, OLD.id: 1976}
    assert ids(await ask(second, "zorblax quintesence"))[0] == "zorblax"
    await second.close()


async def test_vectors_of_another_length_are_refused(index: WritableIndex) -> None:
    """Nothing is written, and the next change is."""
    with pytest.raises(IndexUnavailable):
        await index.upsert([NEW], np.ones((1, DIMENSIONS + 1), np.float32))
    assert await index.count() == len(CATALOGUE)
    await put(index, NEW)
    assert await index.count() == len(CATALOGUE) + 1


async def test_changes_and_questions_at_once(index: WritableIndex, request: pytest.FixtureRequest) -> None:
    """Forty changes and forty questions at the same time all succeed, and the count is right afterwards."""
    if "cluster-grpc" in request.node.name:
        pytest.skip("the server's threads share qdrant-client's local mode, which is not made for that")
    changes = [put(index, replace(NEW, id=f"new-{at}")) for at in range(40)]
    questions = [ask(index, "hello") for _ in range(40)]
    answers = (await asyncio.gather(*changes, *questions))[40:]
    assert {ids(hits)[0] for hits in answers if hits is not None} == {"hello-adele"}
    assert await index.count() == len(CATALOGUE) + 40


async def test_a_closed_index_is_not_changed(opener: Open) -> None:
    """After `close` every change must raise IndexUnavailable."""
    index = await opener()
    await index.close()
    for change in (put(index, NEW), index.delete(["queen"]), index.get(["queen"])):
        with pytest.raises(IndexUnavailable, match="closed"):
            await change
