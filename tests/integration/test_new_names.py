"""Names that no training has seen, in an index of their own: protected and corrected to as soon as it is served."""

from __future__ import annotations

import csv
import subprocess
from collections.abc import Iterator

import httpx
import pytest

from tests.conftest import DEMO, SEARCHBAR, Serving, start, stop

NEW = (
    ("Zorblax Quintessence", "Vexillum Nine"),
    ("Halcyon Marmoset Parade", "Vexillum Nine"),
    ("Quandary of the Thirteenth Umbrella", "Oddfellow Brigantine"),
)


@pytest.fixture(scope="module")
def new_names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A hundred songs of the demo catalogue and three that nobody has heard of."""
    folder = tmp_path_factory.mktemp("new")
    with DEMO.open(encoding="utf-8", newline="") as file:
        known = [(r["title"], r["artist"]) for r in csv.DictReader(file) if r["kind"] == "track"][:100]
    catalogue = folder / "new.csv"
    with catalogue.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("title", "artist"), *known, *NEW])
    command = [SEARCHBAR, "index", str(catalogue), "--out", str(folder / "index")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    running = start(folder / "index", folder / "serve.log")
    yield running
    stop(running)


@pytest.mark.parametrize(
    ("query", "meant"),
    [
        pytest.param("zorblax quintesence", "zorblax quintessence", id="a letter missing"),
        pytest.param("vexilum nine", "vexillum nine", id="an artist"),
        pytest.param("halcion marmoset parade", "halcyon marmoset parade", id="a sound-alike"),
        pytest.param("oddfelow brigantine", "oddfellow brigantine", id="a doubled letter undone"),
        pytest.param("quandary of the thirtenth umbrela", "quandary of the thirteenth umbrella", id="two errors"),
    ],
)
def test_typos_of_new_names_are_corrected(new_names: Serving, query: str, meant: str) -> None:
    """A name that came with the index is what its typos are corrected to, and its song is the first hit."""
    answer = httpx.post(f"{new_names.url}/v1/search", json={"query": query}, timeout=10).json()
    assert answer["corrected"] == meant, answer
    assert answer["action"] in ("replace", "suggest")
    assert meant in (answer["hits"][0]["title"].lower(), answer["hits"][0]["artist"].lower())


@pytest.mark.parametrize("name", [text for pair in NEW for text in (*pair, " ".join(pair))])
def test_new_names_are_protected(new_names: Serving, name: str) -> None:
    """Exact titles, artists and pairs are never changed, whatever the model makes of them."""
    (found,) = httpx.post(f"{new_names.url}/v1/spellcheck", json={"queries": [name]}, timeout=10).json()["results"]
    assert (found["action"], found["changed"]) == ("none", False)
