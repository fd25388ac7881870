"""Speller and embedder with a cache before Triton: what costs a call, what does not, and what is each caller's own."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from app.cache import AnswerCache
from app.domain import Correction, Item, Vector
from app.embedder import Embedder
from app.errors import ModelUnavailable
from app.fakes import FakeTriton, unit_vector
from app.lexicon import Lexicon
from app.reranker import FEATURES, Reranker
from app.speller import Policy, Speller

HALO = Item("halo", "Halo", artist="Beyoncé", popularity=90.0)
NIRVANA = Item("teen", "Smells Like Teen Spirit", artist="Nirvana", popularity=97.0)


@pytest.fixture
def triton() -> FakeTriton:
    return FakeTriton({"smels like teen sprit": "smells like teen spirit"})


@pytest.fixture
def speller(triton: FakeTriton) -> Speller:
    """The log-probability decides, a distant reading pays a little."""
    weights = np.zeros((len(FEATURES), 1), np.float32)
    weights[FEATURES.index("logprob")] = 10.0
    weights[FEATURES.index("distance")] = -0.5
    reranker = Reranker([(weights, np.zeros(1, np.float32))], temperature=1.0)
    cache: AnswerCache[str, Correction] = AnswerCache(100, 600.0)
    lexicon, policy = Lexicon([HALO, NIRVANA]), Policy(0.75, 0.4)
    return Speller(triton, lexicon, reranker, policy, timeout_s=10.0, max_in_flight=2, max_queue=100, cache=cache)


@pytest.fixture
def embedder(triton: FakeTriton) -> Embedder:
    cache: AnswerCache[str, Vector] = AnswerCache(100, 600.0)
    return Embedder(triton, timeout_s=10.0, max_in_flight=2, max_queue=100, cache=cache)


def asked(triton: FakeTriton) -> list[list[str]]:
    """The queries of each call."""
    return [[text.decode() for text in call.inputs["QUERY"][:, 0]] for call in triton.calls]


async def test_a_repeated_query_costs_no_call(speller: Speller, embedder: Embedder, triton: FakeTriton) -> None:
    """At once or later, what folds alike is asked once and answered alike."""
    corrections = await asyncio.gather(*(speller.correct(q) for q in ("smels like teen sprit", "SMELS  like teen sprit ")))
    corrections.append(await speller.correct("Smels Like Teen Sprit"))
    assert [c.corrected for c in corrections] == ["smells like teen spirit"] * 3
    vectors = await asyncio.gather(embedder.embed("Café Tacvba"), embedder.embed("cafe tacvba"))
    vectors.append(await embedder.embed("CAFE TACVBA"))
    assert all(np.array_equal(vector, unit_vector(b"cafe tacvba")) for vector in vectors)
    assert asked(triton) == [["smels like teen sprit"], ["cafe tacvba"]]


@pytest.mark.parametrize("at_once", [pytest.param(True, id="at once"), pytest.param(False, id="later")])
async def test_each_caller_keeps_its_accents(speller: Speller, triton: FakeTriton, at_once: bool) -> None:
    """Queries that differ in accents share the judgement; where the query stays, each sees its own form of it."""
    queries = ["sigur rós", "sigur ros", "Sigur Rôs"]
    if at_once:
        found = list(await asyncio.gather(*map(speller.correct, queries)))
    else:
        found = [await speller.correct(query) for query in queries]
    assert [(c.query, c.corrected, c.changed) for c in found] == [(q.lower(), q.lower(), False) for q in queries]
    assert asked(triton) == [["sigur ros"]]
    named = await speller.correct("BEYONCÉ"), await speller.correct("beyonce")
    assert [(c.query, c.corrected) for c in named] == [("beyoncé", "beyoncé"), ("beyonce", "beyonce")]


async def test_a_replaced_correction_is_everyones_and_the_query_its_own(speller: Speller, triton: FakeTriton) -> None:
    """A cached correction keeps what it says of the reading; only the query shown is the caller's."""
    plain, accented = await speller.correct("smels like teen sprit"), await speller.correct("smels like téen sprit")
    assert (plain.query, accented.query) == ("smels like teen sprit", "smels like téen sprit")
    assert plain.corrected == accented.corrected == "smells like teen spirit"
    assert (plain.action, plain.confidence, plain.alternatives) == (accented.action, accented.confidence, accented.alternatives)
    assert len(triton.calls) == 1


async def test_a_new_lexicon_costs_a_call(speller: Speller, triton: FakeTriton) -> None:
    """With the lexicon the answers go, those under way too: what the old one makes of a query is not told later."""
    triton.corrections["halo"] = "hello"
    assert (await speller.correct("halo")).action == "none"
    triton.latency_s["speller"] = 0.05
    under_way = asyncio.create_task(speller.correct("smels like teen sprit"))
    await asyncio.sleep(0)
    speller.lexicon = Lexicon([NIRVANA])
    triton.corrections["smels like teen sprit"] = "smelt like teen spirit"
    assert (await speller.correct("halo")).corrected == "hello"
    await under_way
    assert (await speller.correct("smels like teen sprit")).corrected == "smelt like teen spirit"
    assert asked(triton).count(["smels like teen sprit"]) == 2
    before = len(triton.calls)
    await speller.correct("halo")
    assert len(triton.calls) == before


async def test_a_failure_is_asked_again(speller: Speller, embedder: Embedder, triton: FakeTriton) -> None:
    """What a server that is down could not answer it is asked when it is back; what it had answered stays known meanwhile."""
    await embedder.embed("halo")
    triton.stop()
    for answer in (speller.correct("halp"), embedder.embed("halp")):
        with pytest.raises(ModelUnavailable):
            await answer
    assert np.array_equal(await embedder.embed("halo"), unit_vector(b"halo"))
    triton.failures.clear()
    assert (await speller.correct("halp")).query == "halp"
    assert np.array_equal(await embedder.embed("halp"), unit_vector(b"halp"))


async def test_fresh_answers_come_from_the_model(speller: Speller, embedder: Embedder, triton: FakeTriton) -> None:
    """Who asks for a fresh answer gets the server's own, whatever is cached."""
    for fresh in (False, False, True):
        await speller.correct("halp", fresh=fresh)
        await embedder.embed("halp", fresh=fresh)
    assert [call.model for call in triton.calls] == ["speller", "embedder"] * 2


async def test_vectors_are_shared_so_nobody_may_change_them(embedder: Embedder) -> None:
    """A vector is read-only and holds no more memory than its own numbers, not the batch it came in."""
    first, *_ = await asyncio.gather(*(embedder.embed(f"query {n}") for n in range(20)))
    assert first is await embedder.embed("query 0")
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 1.0
    for n in range(20):
        assert (await embedder.embed(f"query {n}")).base is None
