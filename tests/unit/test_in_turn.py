"""Several servers under one load in turn: how a server is written, whose code it runs, in what order they are asked."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from app.errors import InvalidInput
from app.settings import ROOT
from loadtest import in_turn
from loadtest.in_turn import Variant, Visit, body, code, main, scenario
from loadtest.overload import AFTER, BURST, Phase
from loadtest.scenarios import STATED
from loadtest.server import Target

LOAD = scenario("overload", 900.0)


@pytest.mark.parametrize(
    ("text", "tree", "settings", "by_socket"),
    [
        pytest.param("", str(ROOT), {}, False, id="this one"),
        pytest.param("HEAD~1", "HEAD~1", {}, False, id="a revision"),
        pytest.param("socket", str(ROOT), {}, True, id="by its socket"),
        pytest.param("A=1 ../other socket 'B=two words'", "../other", {"A": "1", "B": "two words"}, True, id="everything"),
        pytest.param("A=b=c", str(ROOT), {"A": "b=c"}, False, id="a setting with an equals sign"),
    ],
)
def test_a_server_is_written_as_words(text: str, tree: str, settings: dict[str, str], by_socket: bool) -> None:
    """In any order, and what is left out is as usual."""
    variant = Variant.parse(text)
    assert (variant.tree, dict(variant.settings), variant.by_socket) == (tree, settings, by_socket)


@pytest.mark.parametrize(
    ("text", "said"),
    [pytest.param("HEAD HEAD~1", "one tree", id="two trees"), pytest.param("'HEAD", "quotation", id="half a quote")],
)
def test_a_server_that_is_none(text: str, said: str) -> None:
    """It is said what is wrong with it."""
    with pytest.raises(InvalidInput, match=said):
        Variant.parse(text)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of two commits, taken for this one."""
    monkeypatch.setattr(in_turn, "ROOT", tmp_path)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    for content in ("before", "after"):
        (tmp_path / "file").write_text(content)
        subprocess.run([*git, "add", "file"], check=True)
        subprocess.run([*git, "commit", "-q", "-m", content], check=True)
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "index").write_text("built")
    return tmp_path


def test_the_code_of_a_revision(repository: Path) -> None:
    """It is unpacked with what was built here beside it, and gone afterwards; what was built stays."""
    with code("HEAD~1") as tree:
        assert (tree / "file").read_text() == "before" and (tree / "var" / "index").read_text() == "built"
    assert not tree.exists() and (repository / "var" / "index").exists()
    with code(str(repository)) as tree:
        assert tree == repository and (tree / "file").read_text() == "after"


def test_a_tree_that_is_none(repository: Path) -> None:
    """Neither directory nor revision; an option of git's is no revision either."""
    for tree in ("nothing", "--remote=elsewhere"):
        with pytest.raises(InvalidInput, match="neither a directory nor a git revision"), code(tree):
            pytest.fail("it has code")


def phase(answered: float, refused: int = 0, idle: float = 0.0) -> Phase:
    return Phase(BURST, 900.0, answered, 20.0, refused, (1.0, 2.0, 3.0, 4.0) if refused else (), 0.0, {}, {}, idle=idle)


class Asked:
    """In place of a driver: says what was asked of whom, and answers ever more."""

    def __init__(self, log: list[tuple[str, str, Any]], target: Target) -> None:
        self.samples: list[Any] = []
        self._log, self._target, self._drawn = log, target, 0

    def prepare(self, rate_per_s: float, seconds: float) -> str:
        self._drawn += 1
        return f"{self._drawn}: {rate_per_s:g}/s for {seconds:g} s"

    def drive(self, name: str, rate_per_s: float, seconds: float, asked: Any = None) -> tuple[Phase, list[Any]]:
        self._log.append((self._target.url, name, asked))
        return phase(100.0 * len(self._log)), []


def test_the_same_requests_in_turn_and_in_reverse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each round draws anew, for all alike; every other begins with the last server."""
    log: list[tuple[str, str, Any]] = []
    asked: Callable[..., Asked] = lambda overload, target, tell: Asked(log, target)  # noqa: E731
    monkeypatch.setattr(in_turn, "Driver", asked)
    visits = in_turn.in_turn(LOAD, [Target("a"), Target("b")], 8.0, 2, lambda line: None, rest_s=0.0)
    first, second = ("1: 900/s for 8 s", "2: 300/s for 2 s"), ("3: 900/s for 8 s", "4: 300/s for 2 s")
    assert log[:2] == [("a", "warm-up", None), ("b", "warm-up", None)]
    assert log[2:6] == [("a", BURST, first[0]), ("a", AFTER, first[1]), ("b", BURST, first[0]), ("b", AFTER, first[1])]
    assert log[6:] == [("b", BURST, second[0]), ("b", AFTER, second[1]), ("a", BURST, second[0]), ("a", AFTER, second[1])]
    assert [[one.burst.goodput_per_s for one in some] for some in visits] == [[300, 900], [500, 700]]


def test_rates_are_compared_within_a_round() -> None:
    """Twice as much in each round, on a machine that became twice as slow."""
    before = [Visit(phase(100.0, idle=0.1), phase(0.0)), Visit(phase(50.0, idle=0.3), phase(0.0))]
    after = [Visit(phase(200.0, 7), phase(0.0, 3)), Visit(phase(100.0), phase(0.0))]
    rows = [line.split(" | ") for line in body([Variant.parse("HEAD"), Variant.parse(".")], [before, after], 5.0).splitlines()]
    assert [row[0] for row in rows[2:]] == ["| `HEAD`", "| `.`"]
    assert rows[2][1:3] == ["75 (50–100)", "1.00 (1.00–1.00)"] and rows[3][1:3] == ["150 (100–200)", "2.00 (2.00–2.00)"]
    assert rows[2][-1] == "0.20 (0.10–0.30) |"
    assert rows[2][6] == "–" and rows[3][6] == "4.0 (4.0–4.0)"  # the slowest refusal, of which the first had none
    assert all(len(row) == len(rows[0]) for row in rows[2:])


def test_a_load_by_name() -> None:
    """A stated one or an overload's, at its own rate unless another is given."""
    assert scenario("search-zipf", None) == STATED["search-zipf"]
    assert LOAD.rate_per_s == 900.0 and LOAD.traffic == "distinct"
    with pytest.raises(InvalidInput, match="no load of that name: none; there are embed-distinct"):
        scenario("none", None)


def test_one_server_alone(tmp_path: Path) -> None:
    """It is not started."""
    with pytest.raises(InvalidInput, match="two servers at least"):
        main(LOAD, ["."], 1.0, 1, tmp_path, Console())
