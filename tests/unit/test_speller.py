"""The speller: what is asked of Triton, and what its log-probabilities are turned into."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

from app.domain import Item
from app.errors import ModelUnavailable, SetupError
from app.fakes import FakeTriton
from app.lexicon import Lexicon
from app.reranker import FEATURES, Reranker, Scored, features
from app.speller import MAX_CANDIDATES, Policy, Speller

LEXICON = Lexicon(
    [
        Item("billie", "Billie Jean", artist="Michael Jackson", popularity=98.0),
        Item("teen", "Smells Like Teen Spirit", artist="Nirvana", popularity=97.0),
        Item("halo", "Halo", artist="Beyoncé", popularity=90.0),
        Item("blink", "Dammit", artist="blink-182", popularity=80.0),
    ]
)
DEFAULT = Policy(0.75, 0.4)


def reranker() -> Reranker:
    """The log-probability decides, a distant reading pays a little."""
    weights = np.zeros((len(FEATURES), 1), np.float32)
    weights[FEATURES.index("logprob")] = 10.0
    weights[FEATURES.index("distance")] = -0.5
    return Reranker([(weights, np.zeros(1, np.float32))], temperature=1.0)


def speller(triton: FakeTriton, policy: Policy = DEFAULT) -> Speller:
    return Speller(triton, LEXICON, reranker(), policy, timeout_s=10.0, max_in_flight=2, max_queue=100)


@pytest.mark.parametrize(
    ("query", "meant", "policy", "action"),
    [
        pytest.param("smels like teen sprit", "smells like teen spirit", Policy(0.75, 0.4), "replace", id="sure"),
        pytest.param("smels like teen sprit", "smells like teen spirit", Policy(1.0, 0.4), "suggest", id="not sure enough"),
        pytest.param("smels like teen sprit", "smells like teen spirit", Policy(1.0, 1.0), "none", id="not even to suggest"),
        pytest.param("new single", "new singel", Policy(0.75, 0.4), "replace", id="a reading the lexicon does not know"),
        pytest.param("new single", "new single", Policy(0.75, 0.4), "none", id="right as it is"),
        pytest.param("halo", "hello", Policy(0.0, 0.0), "none", id="a name is protected"),
        pytest.param("Blink-182", "blink 182", Policy(0.0, 0.0), "none", id="an artist with digits is protected"),
        pytest.param(" \x00 ", "x", Policy(0.0, 0.0), "none", id="nothing typed"),
    ],
)
async def test_what_a_search_bar_should_do(query: str, meant: str, policy: Policy, action: str) -> None:
    """The policy turns a confidence into an action; `none` exactly when unchanged, and the query stays then."""
    found = await speller(FakeTriton({query.lower(): meant}), policy).correct(query)
    assert found.action == action
    assert found.changed is (action != "none")
    assert found.corrected == (meant if found.changed else found.query)
    assert 0.0 <= found.confidence <= 1.0


async def test_mended_spaces_are_the_best_reading_but_no_change() -> None:
    """A space put right is corrected without telling the listener; below the threshold the query stays."""
    triton = FakeTriton({"bey once": "beyonce"})
    sure = await speller(triton, Policy(0.0, 0.0)).correct("bey once")
    assert (sure.corrected, sure.changed, sure.action) == ("beyonce", False, "none")
    unsure = await speller(triton, Policy(1.0, 1.0)).correct("bey once")
    assert (unsure.corrected, unsure.changed, unsure.action) == ("bey once", False, "none")


async def test_alternatives_are_other_readings() -> None:
    """Runners-up come most probable first, and hold neither the query nor the correction."""
    found = await speller(FakeTriton({"bilie jean": "bilie jeanne"})).correct("bilie jean")
    assert found.corrected == "bilie jeanne"
    texts = [alternative.text for alternative in found.alternatives]
    assert not {"bilie jean", "bilie jeanne"} & set(texts)
    confidences = [alternative.confidence for alternative in found.alternatives]
    assert confidences == sorted(confidences, reverse=True)
    assert sum(confidences) + found.confidence <= 1.001


async def test_broken_characters_are_no_reading() -> None:
    """A model output that ends inside a character is dropped: neither the correction nor an alternative holds U+FFFD."""
    found = await speller(FakeTriton({"愛在 天夏": "愛在\ufffd 天夏"}), Policy(0.0, 0.0)).correct("愛在 天夏")
    assert "\ufffd" not in "".join([found.corrected, *(a.text for a in found.alternatives)])


async def test_concurrent_queries_share_a_call() -> None:
    """Queries that arrive while calls are in flight travel as one batch, their candidates padded with empty texts."""
    triton = FakeTriton({"smels like teen sprit": "smells like teen spirit"})
    triton.latency_s["speller"] = 0.05
    queries = ["hallo", "zzzzqqqq", "smels like teen sprit", "qqq", "bilie jean"]
    found = await asyncio.gather(*map(speller(triton).correct, queries))
    assert [correction.query for correction in found] == queries
    assert found[2].corrected == "smells like teen spirit"
    assert [len(call.inputs["QUERY"]) for call in triton.calls] == [1, 4]
    batch = triton.calls[-1].inputs
    assert [bytes(text[0]) for text in batch["QUERY"]] == [text.encode() for text in queries[1:]]
    assert batch["CANDIDATES"].shape[0] == 4
    assert 1 <= batch["CANDIDATES"].shape[1] <= MAX_CANDIDATES
    assert not any(batch["CANDIDATES"][2])  # nothing is near "qqq"


async def test_a_model_that_is_away_is_said() -> None:
    """What only the model can judge is an error without it; a name of the catalogue is right without it."""
    triton = FakeTriton()
    triton.stop()
    with pytest.raises(ModelUnavailable):
        await speller(triton).correct("halp")
    assert (await speller(triton).correct("halo")).action == "none"


@pytest.mark.parametrize(
    ("query", "meant", "confidence", "action"),
    [
        pytest.param("track 181", "track 182", 0.9, "suggest", id="digits that differ need certainty"),
        pytest.param("track 181", "track 182", 0.99, "replace", id="and have it"),
        pytest.param("hal", "halo", 0.9, "suggest", id="three letters need certainty"),
        pytest.param("hallo", "halo", 0.9, "replace", id="five letters do not"),
        pytest.param("halo", "hallo", 0.7, "none", id="a name keeps its place"),
        pytest.param("halo", "hallo", 0.99, "suggest", id="and is never replaced"),
        pytest.param("hallo", "halo", 0.3, "suggest", id="worth a line"),
        pytest.param("hallo", "halo", 0.2, "none", id="not worth a line"),
    ],
)
def test_delicate_queries_need_more_confidence(query: str, meant: str, confidence: float, action: str) -> None:
    """The policy asks for certainty before it touches digits and short queries, and never replaces a name."""
    assert Policy(0.75, 0.25, 0.95).action(query, meant, confidence, LEXICON) == action


async def test_a_new_lexicon_serves_the_next_query() -> None:
    """The lexicon may be replaced while serving."""
    used = speller(FakeTriton({"halo": "hello"}))
    assert (await used.correct("halo")).action == "none"
    used.lexicon = Lexicon([])
    assert (await used.correct("halo")).corrected == "hello"


def test_features_match_their_names() -> None:
    """One finite number a feature and candidate, whatever the texts; the query is marked as itself."""
    readings = [Scored("bilie jean", -9.0), Scored("billie jean", -0.5, True), Scored("", -np.inf), Scored("x" * 300, -500.0)]
    matrix = features("bilie jean", readings, LEXICON)
    assert matrix.shape == (4, len(FEATURES))
    assert np.isfinite(matrix).all()
    assert matrix[:, FEATURES.index("is_query")].tolist() == [1, 0, 0, 0]
    assert matrix[:, FEATURES.index("is_name")].tolist() == [0, 1, 0, 0]
    assert matrix[1, FEATURES.index("logprob_over_query")] == pytest.approx(0.85)


def test_probabilities_follow_the_layers(tmp_path: Path) -> None:
    """A stored network of two layers gives the softmax worked out by hand, at its temperature."""
    hidden = np.zeros((len(FEATURES), 2)).tolist()
    hidden[0] = [1.0, -1.0]  # is_query, and its opposite cut off at zero
    stored = {"features": FEATURES, "layers": [[hidden, [0.0, 0.0]], [[[2.0], [9.0]], [0.5]]], "temperature": 2.0}
    path = tmp_path / "reranker.json"
    path.write_text(json.dumps(stored), encoding="utf-8")
    matrix = np.zeros((2, len(FEATURES)), np.float32)
    matrix[0, 0] = 1.0
    assert Reranker.load(path).probabilities(matrix) == pytest.approx([np.e / (np.e + 1), 1 / (np.e + 1)])


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="missing"),
        pytest.param("{", id="broken"),
        pytest.param('{"features": ["other"], "layers": [], "temperature": 1}', id="other features"),
    ],
)
def test_unusable_weights_name_the_cure(tmp_path: Path, content: str | None) -> None:
    """Weights that are missing, broken or fitted to other features are a SetupError that says how to make them."""
    path = tmp_path / "reranker.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(SetupError, match="searchbar train reranker"):
        Reranker.load(path)


@pytest.mark.parametrize(
    ("query", "doubted"),
    [
        pytest.param("Smels like  teen sprit", True, id="near a name"),
        pytest.param("Halo", False, id="a name"),
        pytest.param("songs to sleep", False, id="no reading known"),
        pytest.param(" ", False, id="nothing typed"),
    ],
)
async def test_doubts_ask_no_model(query: str, doubted: bool) -> None:
    """Whether another reading is known is the lexicon's to say."""
    triton = FakeTriton({})
    assert speller(triton).doubts(query) is doubted
    assert triton.calls == []
