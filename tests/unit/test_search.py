"""The search service: merging two readings, and what one search starts, waits for and leaves out."""

from __future__ import annotations

import asyncio

import pytest

from app.cache import AnswerCache
from app.domain import Action, Correction, Filters, Hit, Item, Vector
from app.errors import IndexUnavailable, ModelUnavailable, SearchbarError
from app.fakes import FakeIndex, unit_vector
from app.search import Asked, SearchService, distinct, merge

ITEMS = tuple(Item(name, name.title(), artist=f"artist {name}") for name in ("a", "b", "c", "d"))
BILLIE = Item("billie", "Billie Jean", artist="Michael Jackson", popularity=90.0)
BILLY = Item("billy", "Billy Jeans", artist="Nobody", popularity=10.0)


def hits(names: str, matched_by: tuple[str, ...] = ("title",)) -> list[Hit]:
    """Hits for the items of these names, scores falling."""
    by_id = {item.id: item for item in ITEMS}
    return [Hit(by_id[name], 1.0 - place / 10, matched_by) for place, name in enumerate(names)]


def correction(action: Action) -> Correction:
    return Correction("typed", "meant", action != "none", 0.9, action)


@pytest.mark.parametrize(
    ("typed", "corrected", "action", "expected"),
    [
        pytest.param("ab", "", "none", "ab", id="one reading"),
        pytest.param("", "cd", "replace", "cd", id="nothing as typed"),
        pytest.param("ab", "cd", "replace", "cdab", id="the correction leads when it replaces"),
        pytest.param("ab", "cd", "suggest", "abcd", id="the query leads when it does not"),
        pytest.param("ab", "cb", "replace", "bca", id="what both found comes first"),
    ],
)
def test_merge_orders(typed: str, corrected: str, action: Action, expected: str) -> None:
    """The reading that is shown leads, the other follows, and what both found adds up."""
    merged = merge(hits(typed), hits(corrected), correction(action))
    assert "".join(hit.item.id for hit in merged) == expected
    assert [hit.score for hit in merged] == sorted((hit.score for hit in merged), reverse=True)


def test_merge_says_what_only_the_correction_found() -> None:
    """A hit is matched by the correction only when the query as typed did not find it; what else matched is kept once."""
    merged = merge(hits("ab", ("title", "text")), hits("bc", ("title", "artist")), correction("replace"))
    assert {hit.item.id: hit.matched_by for hit in merged} == {
        "a": ("title", "text"),
        "b": ("title", "text", "artist"),
        "c": ("title", "artist", "correction"),
    }


def test_distinct_keeps_the_best_placed() -> None:
    """The same recording on several albums is one hit; another kind or artist of that title is not the same."""
    found = [
        Hit(Item("1", "Halo", artist="Beyoncé", album="Live"), 3.0, ()),
        Hit(Item("2", "HALO", artist="Beyonce", album="I Am"), 2.0, ()),
        Hit(Item("3", "Halo", "album", "Beyoncé"), 1.0, ()),
        Hit(Item("4", "Halo", artist="Depeche Mode"), 0.5, ()),
    ]
    assert [hit.item.id for hit in distinct(found)] == ["1", "3", "4"]


class Spells:
    """A speller that knows one correction, or fails; it may have its doubts beforehand."""

    def __init__(self, failure: SearchbarError | None = None, latency_s: float = 0.0, doubting: bool = False) -> None:
        self.failure = failure
        self.latency_s = latency_s
        self.doubting = doubting

    def doubts(self, query: str) -> bool:
        return self.doubting

    async def correct(self, query: str) -> Correction:
        await asyncio.sleep(self.latency_s)
        if self.failure:
            raise self.failure
        if query == "bilie jean":
            return Correction(query, "billie jean", True, 0.9, "replace")
        return Correction(query, query, False, 0.9, "none")


class Embeds:
    """An embedder of random directions that notes what it was asked, and may be slow or fail."""

    def __init__(self, failure: SearchbarError | None = None, latency_s: float = 0.0) -> None:
        self.failure = failure
        self.latency_s = latency_s
        self.asked: list[str] = []

    async def embed(self, text: str) -> Vector:
        self.asked.append(text)
        await asyncio.sleep(self.latency_s)
        if self.failure:
            raise self.failure
        return unit_vector(text.encode())


class Names:
    """Names near whatever is asked, or none."""

    def __init__(self, near: tuple[tuple[str, float], ...] = (), begun: bool = False) -> None:
        self._near = near
        self._begun = begun

    def __call__(self, query: str) -> tuple[tuple[str, float], ...]:
        return self._near

    def begun(self, query: str) -> bool:
        return self._begun


def service(
    speller: Spells | None = None,
    embedder: Embeds | None = None,
    index: FakeIndex | None = None,
    deadline_s: float = 10.0,
    spare: int = 2,
    names: Names | None = None,
) -> SearchService:
    index = index or FakeIndex([BILLIE, BILLY])
    embedder = embedder or Embeds()
    return SearchService(speller or Spells(), embedder, index, names or Names(), deadline_s=deadline_s, spare=spare)


async def test_both_readings_are_searched() -> None:
    """A correction is retrieved beside the query as typed, each with its own vector, limit and filters."""
    index, embedder = FakeIndex([BILLIE, BILLY]), Embeds()
    filters = Filters(kinds=("track",))
    answer = await service(embedder=embedder, index=index).search("Bilie  Jean", 1, filters)
    assert [hit.item.id for hit in answer.hits] == ["billie"]
    assert [(q.text, q.limit, q.filters) for q in index.queries] == [("bilie jean", 1, filters), ("billie jean", 1, filters)]
    assert embedder.asked == ["bilie jean", "billie jean"]
    assert answer.correction is not None and answer.correction.corrected == "billie jean"
    assert (answer.query, answer.degraded) == ("Bilie  Jean", ())


async def test_a_query_that_is_replaced_is_not_searched_as_typed() -> None:
    """Where the lexicon knows another reading, the speller is heard first; what it replaces is not embedded nor looked up."""
    index, embedder = FakeIndex([BILLIE, BILLY]), Embeds()
    answer = await service(Spells(latency_s=0.05, doubting=True), embedder, index, spare=0).search("bilie jean", 1, Filters())
    assert [hit.item.id for hit in answer.hits] == ["billie"]
    assert ([q.text for q in index.queries], embedder.asked) == (["billie jean"], ["billie jean"])
    assert "correction" in answer.hits[0].matched_by


async def test_who_is_alone_does_not_wait() -> None:
    """With time to spare both readings are searched at once; with more searches under way the speller is heard first."""
    index, speller = FakeIndex([BILLIE, BILLY]), Spells(latency_s=0.05, doubting=True)
    searching = service(speller, index=index, spare=1)
    await searching.search("bilie jean", 1, Filters())
    assert [q.text for q in index.queries] == ["bilie jean", "billie jean"]
    index.queries.clear()
    other = asyncio.create_task(searching.search("billy jeans", 1, Filters()))
    await asyncio.sleep(0)
    await searching.search("bilie jean", 1, Filters())
    await other
    assert sorted(q.text for q in index.queries) == ["billie jean", "billy jeans"]


@pytest.mark.parametrize("spare", [pytest.param(2, id="time to spare"), pytest.param(0, id="busy")])
async def test_what_begins_a_name_is_not_replaced_by_another_beginning(spare: int) -> None:
    """Somebody may be typing still: another reading is offered, and not searched."""
    index, embedder = FakeIndex([BILLIE, BILLY]), Embeds()
    searching = service(Spells(latency_s=0.05, doubting=True), embedder, index, spare=spare, names=Names(begun=True))
    answer = await searching.search("bilie jean", 2, Filters())
    assert ([q.text for q in index.queries], embedder.asked) == (["bilie jean"], ["bilie jean"])
    assert answer.correction is not None
    assert (answer.correction.action, answer.correction.corrected) == ("suggest", "billie jean")


async def test_what_begins_a_name_is_replaced_by_one_that_goes_on() -> None:
    """A last letter left out is mended like any other."""
    index = FakeIndex([BILLIE, BILLY])
    answer = await service(SpellsAlike(), index=index, names=Names(begun=True)).search("billie jea", 1, Filters())
    assert [q.text for q in index.queries] == ["billie jea", "billie jean"]
    assert answer.correction is not None and answer.correction.action == "replace"
    assert answer.hits[0].matched_by[-1] == "correction"


async def test_names_that_may_be_meant_are_asked_for_of_what_was_typed() -> None:
    """The index is told of near names with the query as typed, not with its correction."""
    index, names = FakeIndex([BILLIE, BILLY]), (("billie jean", 0.9),)
    await service(index=index, names=Names(names)).search("bilie jean", 1, Filters())
    assert [(q.text, q.names) for q in index.queries] == [("bilie jean", names), ("billie jean", None)]


async def test_what_a_correction_does_not_find_is_searched_as_typed() -> None:
    """A page that the corrected reading does not fill is filled up with what was typed."""
    index = FakeIndex([BILLIE, Item("bilie", "Bilie", artist="Somebody")])
    answer = await service(Spells(doubting=True), index=index, spare=0).search("bilie jean", 10, Filters())
    assert [hit.item.id for hit in answer.hits] == ["billie", "bilie"]
    assert [q.text for q in index.queries] == ["billie jean", "bilie jean"]


async def test_the_query_as_typed_does_not_wait_for_ever() -> None:
    """A speller that takes its time is not waited for, nor one that leaves the query as it is heard twice."""
    index = FakeIndex([BILLIE, BILLY])
    answer = await service(Spells(latency_s=0.5, doubting=True), None, index, 1.0, spare=0).search("bilie jean", 1, Filters())
    assert [q.text for q in index.queries] == ["bilie jean", "billie jean"]
    assert (answer.degraded, answer.hits[0].item.id) == ((), "billie")
    index = FakeIndex([BILLIE, BILLY])
    await service(Spells(doubting=True), index=index, spare=0).search("billie jean", 1, Filters())
    assert [q.text for q in index.queries] == ["billie jean"]


async def test_a_query_that_is_right_is_searched_once() -> None:
    """Without a correction there is one question to the index."""
    index = FakeIndex([BILLIE])
    await service(index=index).search("billie jean", 10, Filters())
    assert len(index.queries) == 1


class SpellsAlike(Spells):
    """A speller that takes every query for one name."""

    async def correct(self, query: str) -> Correction:
        return Correction(query, "billie jean", True, 0.9, "replace")


def remembering(index: FakeIndex, embedder: Embeds) -> SearchService:
    """A service that keeps the hits of corrected readings, and no whole answer."""
    kept: AnswerCache[Asked, list[Hit]] = AnswerCache(8, 600.0)
    return SearchService(SpellsAlike(), embedder, index, Names(), deadline_s=10.0, readings=kept)


async def test_misspellings_of_one_name_share_its_hits() -> None:
    """The corrected reading is retrieved once for two misspellings, anew for another limit and after the index changed."""
    index, embedder = FakeIndex([BILLIE, BILLY]), Embeds()
    searching = remembering(index, embedder)
    first = await searching.search("bilie jean", 10, Filters())
    second = await searching.search("billie jaen", 10, Filters())
    assert [q.text for q in index.queries] == ["bilie jean", "billie jean", "billie jaen"]
    assert embedder.asked == ["bilie jean", "billie jean", "billie jaen"]
    assert [hit.item.id for hit in first.hits] == [hit.item.id for hit in second.hits]
    await searching.search("billie jaen", 1, Filters())
    searching.forget()
    await searching.search("bilie jaen", 10, Filters())
    assert [q.text for q in index.queries[3:]] == ["billie jaen", "billie jean", "bilie jaen", "billie jean"]
    assert (searching.readings.hits, searching.readings.misses) == (1, 3)


async def test_hits_without_an_embedding_are_not_kept() -> None:
    """What was found by words alone is asked again, and each answer says so."""
    index, embedder = FakeIndex([BILLIE]), Embeds(ModelUnavailable("down"))
    searching = remembering(index, embedder)
    for _ in range(2):
        assert (await searching.search("bilie jean", 10, Filters())).degraded == ("embedder",)
    assert [q.text for q in index.queries] == ["bilie jean", "billie jean"] * 2


async def test_hits_found_before_a_change_are_not_kept_after_it() -> None:
    """A retrieval under way while the index changes answers its own search alone."""
    index, embedder = FakeIndex([BILLIE]), Embeds(latency_s=0.05)
    searching = remembering(index, embedder)
    under_way = asyncio.create_task(searching.search("bilie jean", 10, Filters()))
    await asyncio.sleep(0.02)
    searching.forget()
    await under_way
    assert searching.readings.size == 0


async def test_nothing_typed_asks_nobody() -> None:
    """A query of spaces and control characters is answered without a hit and without a call."""
    index, embedder = FakeIndex([BILLIE]), Embeds()
    answer = await service(embedder=embedder, index=index).search(" \x00 ", 10, Filters())
    assert (answer.hits, answer.degraded, index.queries, embedder.asked) == ((), (), [], [])


async def test_the_typed_reading_does_not_wait_for_the_speller() -> None:
    """Embedding and retrieval as typed start at once; the index is timed alone, without the wait for its vector."""
    speller, embedder = Spells(latency_s=0.3), Embeds(latency_s=0.2)
    answer = await service(speller, embedder).search("billie jean", 10, Filters())
    timings = answer.timings_ms
    assert set(timings) == {"speller", "embedder", "index", "total"}
    assert timings["embedder"] >= 195
    assert timings["index"] < 150
    assert timings["total"] < timings["speller"] + timings["embedder"]


@pytest.mark.parametrize(
    ("speller", "embedder", "degraded"),
    [
        pytest.param(Spells(ModelUnavailable("x")), Embeds(), ("speller",), id="speller down"),
        pytest.param(Spells(), Embeds(ModelUnavailable("x")), ("embedder",), id="embedder down"),
        pytest.param(Spells(latency_s=30), Embeds(), ("speller",), id="speller late"),
        pytest.param(Spells(), Embeds(latency_s=30), ("embedder",), id="embedder late"),
        pytest.param(Spells(latency_s=30), Embeds(latency_s=30), ("embedder", "speller"), id="both late"),
    ],
)
async def test_missing_models_are_named(speller: Spells, embedder: Embeds, degraded: tuple[str, ...]) -> None:
    """Without a model the search answers by what is left, names it, and asks the index for words alone without a vector."""
    index = FakeIndex([BILLIE])
    answer = await service(speller, embedder, index, deadline_s=1.0).search("billie jean", 10, Filters())
    assert tuple(sorted(answer.degraded)) == degraded
    assert [hit.item.id for hit in answer.hits] == ["billie"]
    assert (answer.correction is None) is ("speller" in degraded)
    assert (index.queries[0].vector is None) is ("embedder" in degraded)


async def test_without_the_speller_the_catalogue_is_asked() -> None:
    """With the speller down the best hit's near name is offered; the hits are those of the query as typed, asked once."""
    index = FakeIndex([BILLIE, BILLY])
    answer = await service(Spells(ModelUnavailable("x")), index=index).search("Billie Jaen", 10, Filters())
    assert answer.correction is not None
    assert (answer.correction.query, answer.correction.corrected) == ("billie jaen", "billie jean")
    assert (answer.correction.action, answer.correction.changed, answer.degraded) == ("suggest", True, ("speller",))
    assert ([hit.item.id for hit in answer.hits], len(index.queries)) == (["billie"], 1)


async def test_without_the_index_there_is_no_answer() -> None:
    """The index's own failure is what the client hears."""
    index = FakeIndex([BILLIE])
    index.failure = IndexUnavailable("being replaced")
    with pytest.raises(IndexUnavailable, match="being replaced"):
        await service(index=index).search("bilie jean", 10, Filters())


async def test_a_cancelled_search_leaves_nothing_running() -> None:
    """When the client goes, no task of its search goes on."""
    before = asyncio.all_tasks()
    search = asyncio.create_task(service(Spells(latency_s=60), Embeds(latency_s=60), deadline_s=60.0).search("x", 1, Filters()))
    await asyncio.sleep(0.05)
    search.cancel()
    with pytest.raises(asyncio.CancelledError):
        await search
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
