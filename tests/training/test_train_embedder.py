"""`searchbar train embedder`: what its parts promise, and from a CSV to an embedder in a model repository."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from app.settings import ROOT
from tests.training.conftest import Train, copy_of_the_repository

Found = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def found(run: Train, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What embedder_parts.py found, by check; the families of `export` by their name."""
    done = run("python", "-P", Path(__file__).parent / "embedder_parts.py", tmp_path_factory.mktemp("parts"))
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {line.get("family", line["check"]): line for line in lines}


def test_another_right_answer_is_no_negative(found: Found) -> None:
    """A passage that answers a query too must not move it, however near it is; one that does not must."""
    assert found["masked"]["near"] == found["masked"]["far"] == 0.0
    assert found["unmasked"]["near"] > 0.1 > found["unmasked"]["far"]


def test_a_part_of_the_numbers_is_trained_as_an_embedding(found: Found) -> None:
    """Embeddings that are right as a whole and wrong in their first half must cost as much as the half is wrong."""
    assert found["matryoshka"]["whole"] < 1e-3 and found["matryoshka"]["halves"] > 5.0


def test_chunks_give_the_gradient_of_the_whole_batch(found: Found) -> None:
    """Activations made again three texts at a time must lead to the gradient of all texts at once."""
    assert found["chunks"]["difference"] < 1e-4


def test_a_batch_says_which_passages_answer_a_query(found: Found) -> None:
    """As fact sets do, a pair at a time; there are some. Two processes that draw ahead must not draw the same."""
    batches = found["batches"]
    assert batches["same"] and batches["others"] > 0 and not batches["again"]


def test_layers_are_kept_evenly_spaced(found: Found) -> None:
    """Of six: the first, the first and the last, one between them, all."""
    assert found["layers"]["kept"] == [[0], [0, 5], [0, 2, 5], [0, 1, 2, 3, 4, 5]]


def test_hard_negatives_are_in_the_batch(found: Found) -> None:
    """About 0.3 of a batch are items that the one before is taken for, which never bear its title; by chance few are."""
    hard = found["hard"]
    assert hard["mined"] == 300 and hard["same"] == 0
    assert 0.25 < hard["share"] < 0.4 and hard["chance"] < 0.1


def test_playlist_titles_kept_for_evaluation_are_never_drawn(found: Found) -> None:
    """Of sixty titles those held out must not be drawn, and the others must."""
    playlists = found["playlists"]
    assert playlists["kept"] > 0 and playlists["both"] == 0
    assert playlists["drawn"] == 60 - playlists["kept"]


def test_mere_names_of_playlists_are_learnt_only_where_that_is_wanted(found: Found) -> None:
    """A title that says nothing of its songs is left out and counted; with `every_playlist` it is drawn."""
    names = found["names"]
    assert names["left_out"] == names["by_heart"] == names["unkept"] != []


@pytest.mark.parametrize("family", ["bert, first token", "roberta", "distilbert", "mpnet"])
def test_every_family_exports(found: Found, family: str) -> None:
    """The graphs of each encoder family must compute what sentence-transformers computes, padding included."""
    export = found[family]
    assert export["dimensions"] == 64
    assert export["fp32"] > 0.99999 and export["int8"] > 0.999


def test_a_catalogue_trains_an_embedder_that_is_installed(run: Train, catalogue: Path, tmp_path: Path) -> None:
    """Two layers of the shipped weights, trained a few steps on a CSV, end in a graph of unit vectors of the stated width."""
    out, repository = tmp_path / "embedder", copy_of_the_repository(tmp_path)
    weights = ROOT / "training" / "checkpoints" / "embedder"
    shape = ("--steps", 2, "--batch-size", 16, "--chunk", 8, "--no-compile", "--init", weights, "--layers", 2)
    done = run("searchbar", "train", "embedder", "--catalogue", catalogue, "--out", out, *shape, "--install-to", repository)
    assert done.returncode == 0, done.stderr
    assert re.search(r"step +2 .* done", done.stdout) and "taken for others" in done.stdout
    assert json.loads((out / "model" / "config.json").read_text())["num_hidden_layers"] == 2
    config = (repository / "embedder" / "config.pbtxt").read_text()
    (width,) = re.findall(r'"EMBEDDING" .*dims: \[ (\d+) \]', config)
    session = onnxruntime.InferenceSession(str(repository / "embedder_encoder" / "1" / "model.onnx"))
    ones = np.ones((2, 5), np.int64)
    (vectors,) = session.run(None, {"input_ids": ones, "attention_mask": ones})
    assert vectors.shape == (2, int(width)) and np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-4)


SPELLER = ROOT / "training" / "checkpoints" / "speller"


@pytest.mark.parametrize(
    ("init", "says"),
    [
        pytest.param("no-such-folder", "is no directory", id="a name"),
        pytest.param(SPELLER, "is no sentence-transformers model|is made of", id="a speller"),
    ],
)
def test_what_cannot_be_continued_is_said(run: Train, catalogue: Path, tmp_path: Path, init: Path | str, says: str) -> None:
    """A starting point that is no sentence model ends in one message, not in a traceback."""
    place = ("--out", tmp_path / "o", "--init", init, "--steps", 1)
    done = run("searchbar", "train", "embedder", "--catalogue", catalogue, *place)
    assert done.returncode == 1
    assert re.search(says, " ".join(done.stderr.split())) and "Traceback" not in done.stderr
