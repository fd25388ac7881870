"""The comparison's own parts: the search for a limit, settings chosen, figures judged, tables and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli import cli
from app.errors import InvalidInput
from loadtest.compare import QUICK, Contestant, Plan, Row, Subject, in_turn, middle
from loadtest.compare_report import at_rate, merged, publish, read, rows_of, save, verdicts
from loadtest.peers.roster import OURS, PEERS, chosen
from loadtest.report import Figures
from loadtest.server import Target
from loadtest.steps import climb


@pytest.mark.parametrize(
    ("limit", "start", "trials", "between"),
    [
        pytest.param(1000, 900, 9, (950, 1000), id="above the start"),
        pytest.param(300, 900, 9, (285, 300), id="far below the start"),
        pytest.param(900, 900, 9, (855, 900), id="the start itself"),
        pytest.param(0, 900, 6, (0, 0), id="nothing is held"),
        pytest.param(10_000, 100, 3, (156, 157), id="trials run out on the way up"),
    ],
)
def test_the_search_closes_in_on_the_limit(limit: float, start: float, trials: int, between: tuple[float, float]) -> None:
    """What it returns was held, and lies within the stated share of what was not, unless the trials ran out."""
    search = climb(start, close=0.05, trials=trials)
    tried = [next(search)]
    with pytest.raises(StopIteration) as end:
        while True:
            tried.append(search.send(tried[-1] <= limit))
    found = end.value.value
    assert between[0] <= found <= between[1]
    assert len(tried) <= trials
    assert found == 0 or found in tried


class Carries(Subject):
    """A server that holds so many requests a second; it writes down who was asked for what."""

    def __init__(self, name: str, tps: float, log: list[tuple[str, str]]) -> None:
        self.target, self.stopped = Target("http://127.0.0.1:1"), False
        self._name, self._tps, self._turns = name, tps, log

    def open(self, rate_per_s: float, seconds: float) -> Figures:
        self._turns.append((self._name, "a rate"))
        return Figures(100, min(rate_per_s, self._tps), 2.0, 5.0 if rate_per_s <= self._tps else 500.0, 9.0, 9.0, 5.0, 0.1)

    def closed(self, callers: int, seconds: float) -> Figures:
        self._turns.append((self._name, f"{callers} callers"))
        return Figures(100, self._tps, 2.0, 5.0, 9.0, 9.0, 5.0, 0.1)


def test_each_is_asked_before_any_is_asked_for_more() -> None:
    """No server is asked twice for a thing before the others were; each limit is its own, and (a)'s is a load for all."""
    log: list[tuple[str, str]] = []
    plan = Plan(rates=(100.0,), trials=4, rounds=1)
    tps = {"fastapi": 200.0, "litserve": 700.0, "ours": 1500.0}
    contestants = [
        Contestant(Row.of(PEERS[name], PEERS[name].settings[0]), Carries(name, limit, log), plan, lambda line: None)
        for name, limit in tps.items()
    ]
    in_turn(contestants, plan)
    assert log[:6] == [(name, callers) for callers in ("1 callers", "32 callers") for name in tps]
    searched = [name for name, what in log[6:-6]]
    assert all(searched[at : at + 3] == list(tps) for at in range(0, 6, 3))
    assert [name for name, what in log[-6:]] == [*tps, *tps]
    rows = [one.conclude() for one in contestants]
    assert all(0.75 * tps[row.name] < (row.max_tps or 0) <= tps[row.name] for row in rows)
    assert rows[2].at["busy"]["rate"] == pytest.approx(0.9 * (rows[0].max_tps or 0))


class Slows(Carries):
    """One that carries less after so many trials of a rate."""

    def __init__(self, name: str, tps: float, log: list[tuple[str, str]], trials: int, later_tps: float) -> None:
        super().__init__(name, tps, log)
        self._left, self._later_tps = trials, later_tps

    def open(self, rate_per_s: float, seconds: float) -> Figures:
        self._left -= 1
        if self._left < 0:
            self._tps = self._later_tps
        return super().open(rate_per_s, seconds)


@pytest.mark.parametrize(
    ("later_tps", "share", "is_held"),
    [
        pytest.param(200.0, 0.9, True, id="as before"),
        pytest.param(130.0, 0.7, True, id="slower"),
        pytest.param(50.0, 0.6, False, id="too slow for any"),
    ],
)
def test_the_load_of_a_server_that_slowed_is_less(later_tps: float, share: float, is_held: bool) -> None:
    """All are asked for what the first still holds; where it holds nothing its row says so."""
    log: list[tuple[str, str]] = []
    plan = Plan(rates=(), trials=1, rounds=1)
    subjects = {"fastapi": Slows("fastapi", 200.0, log, 1, later_tps), "ours": Carries("ours", 1500.0, log)}
    rows = [Row.of(PEERS[name], PEERS[name].settings[0]) for name in subjects]
    pairs = zip(rows, subjects.values(), strict=True)
    contestants = [Contestant(row, subject, plan, lambda line: None) for row, subject in pairs]
    in_turn(contestants, plan)
    before, ours = (one.conclude() for one in contestants)
    assert before.max_tps and before.at["busy"]["rate"] == pytest.approx(share * before.max_tps)
    assert (not before.at["busy"]["missed"]) is is_held
    assert ours.at["busy"]["rate"] == before.at["busy"]["rate"]


def test_the_load_of_a_is_of_one_round_for_all() -> None:
    """Each round has a rate of its own: a figure of one is not held against another's."""
    subjects = {"fastapi": Carries("fastapi", 200.0, []), "ours": Carries("ours", 1500.0, [])}
    contestants = []
    for name, subject in subjects.items():
        one = Contestant(Row.of(PEERS[name], PEERS[name].settings[0]), subject, Plan(), lambda line: None)
        one.alone(), one.closed()
        one.row.rounds, one._cpu = [180.0], [1.0]
        contestants.append(one)
    for rate, theirs, ours in ((160.0, 9.0, 2.0), (120.0, 7.0, 5.0), (140.0, 8.0, 3.0)):
        for one, p90_ms in zip(contestants, (theirs, ours), strict=True):
            one._at.setdefault("busy", []).append({"rate": rate, "missed": [], "p90_ms": p90_ms})
    assert [(row.at["busy"]["rate"], row.at["busy"]["p90_ms"]) for row in (one.conclude() for one in contestants)] == [
        (140.0, 8.0),
        (140.0, 3.0),
    ]


def test_a_figure_is_of_the_middle_round() -> None:
    """One bad round of three does not show; of two the worse counts where more is better."""
    assert middle([900.0, 100.0, 1000.0]) == 900.0
    assert middle([1000.0, 900.0]) == 900.0
    assert middle([{"p90_ms": 90.0}, {"p90_ms": 9.0}, {"p90_ms": 8.0}], lambda step: step["p90_ms"]) == {"p90_ms": 9.0}
    assert QUICK.rounds == 1


def test_every_peer_asks_for_one_query() -> None:
    """Each request carries the query as JSON to a path of that server, and names and settings are each once there."""
    for peer in PEERS.values():
        request = peer.request("halo")
        assert request.path.startswith("/") and b'"halo"' in (request.body or b"")
        assert any("{port}" in part for part in peer.command)
        assert len({setting.name for setting in peer.settings}) == len(peer.settings)
    assert {"a", "b", "c", "d", "e", "g"} <= {peer.letter for peer in PEERS.values()}


def test_the_setting_that_carried_most_is_used(tmp_path: Path) -> None:
    """Without trials it is the first."""
    peer = PEERS["ray-serve"]
    last = peer.settings[-1]
    assert chosen(peer, tmp_path / "none.json") == peer.settings[0]
    rows = [{"setting": setting.name, "max_tps": 100.0 + (setting is last)} for setting in peer.settings]
    tried = tmp_path / "tried.json"
    tried.write_text(json.dumps({"peers": {peer.name: rows}}))
    assert chosen(peer, tried) == last
    assert chosen(OURS, tried) == OURS.settings[0]


def test_a_server_of_no_known_name_is_refused() -> None:
    """The message lists those there are."""
    done = CliRunner().invoke(cli, ["compare", "--only", "nobody"])
    assert isinstance(done.exception, InvalidInput)
    assert "nobody" in str(done.exception) and "triton" in str(done.exception)


def row(name: str, letter: str, tps: float, p50: float, p90: float, missed: Sequence[str] = (), **more: Any) -> dict[str, Any]:
    at = {"missed": list(missed), "answered_per_s": 400.0, "p50_ms": p50, "p90_ms": p90, "p99_ms": 3 * p90}
    found = Row(name, letter, name.title(), "int8", "default", "2026-11-26 12:00", cosine=0.9999, max_tps=tps, closed_tps=tps)
    found.alone, found.at, found.cpu_s_per_1000, found.memory_mib = {"p50_ms": p50}, {"400": at}, 1.5, 300.0
    return {**asdict(found), **more}


CEILING = {
    "ratio": 1.02, "ours_tps": 1020.0, "triton_tps": 1000.0,
    "added_p50_ms": 1.2, "ours_p50_ms": 3.0, "triton_p50_ms": 1.8,
}  # fmt: skip
BEFORE = row("fastapi", "a", 200.0, 10.0, 20.0)
OTHER = row("litserve", "c", 450.0, 6.0, 12.0)
OURS_ROW = row("ours", "g", 1000.0, 3.0, 4.0)


@pytest.mark.parametrize(
    ("servers", "ceiling", "held"),
    [
        pytest.param([BEFORE, OTHER, OURS_ROW], CEILING, [True, True, True, True, True], id="everything"),
        pytest.param([BEFORE, {**OTHER, "max_tps": 600.0}, OURS_ROW], None, [False, True, True], id="a framework too fast"),
        pytest.param([BEFORE, row("ours", "g", 700.0, 9.0, 19.0)], None, [True, False, False], id="slow and dear"),
        pytest.param([OURS_ROW], {**CEILING, "ratio": 0.9, "added_p50_ms": 1.6}, [False, False], id="a heavy gateway"),
        pytest.param([BEFORE, {**OTHER, "not_run": "no"}], None, [], id="ours was not run"),
    ],
)
def test_what_must_hold_is_judged_by_what_was_measured(
    servers: list[dict[str, Any]], ceiling: dict[str, float] | None, held: list[bool]
) -> None:
    """Each claim has a verdict when its servers were measured, and none otherwise."""
    assert [verdict for *_, verdict in verdicts({"servers": servers, "ceiling": ceiling})] == held


def test_latency_is_judged_at_the_load_of_what_was_before() -> None:
    """Where both were asked for the load of (a), that decides, whatever a lone caller saw."""
    busy = {"rate": 180.0, "missed": [], "answered_per_s": 180.0, "p50_ms": 9.0, "p90_ms": 20.0, "p99_ms": 30.0}
    before = {**BEFORE, "at": {**BEFORE["at"], "busy": busy}}
    slow = row("ours", "g", 1000.0, 9.0, 19.0)
    ours = {**slow, "at": {**slow["at"], "busy": {**busy, "p90_ms": 6.0}}}
    found = {name: (says, held) for name, says, held in verdicts({"servers": [before, ours], "ceiling": None})}
    says, held = found["latency against (a): 63 % less"]
    assert held and "-70 % p90 at (a)'s own load" in says and "-10 % p50, one caller" in says
    header, *_ = rows_of({"servers": [before, ours]})
    assert "p50 / p90 / p99 ms at (a)'s own load" in header


def test_a_limit_shows_its_rounds() -> None:
    """The least and the most of them, where there were several."""
    _, *rows = rows_of({"servers": [{**BEFORE, "rounds": [190.0, 200.0, 260.0]}, {**OTHER, "rounds": [450.0]}]})
    assert [cells[3] for cells in rows] == ["200 (190–260)", "450"]


def test_a_rate_that_was_missed_is_shown_as_such() -> None:
    """Its quantiles would be those of a growing queue."""
    assert at_rate(OURS_ROW["at"]["400"]) == "3.0 / 4.0 / 12.0"
    late = row("slow", "b", 50.0, 900.0, 2000.0, missed=["answered 120/s of 400/s"])["at"]["400"]
    assert at_rate(late) == "not held: 400/s, p90 2000 ms"
    assert at_rate(None) == "–"


def test_a_server_that_was_not_run_has_its_reason_in_the_table() -> None:
    """It is not left out."""
    _, first, second = rows_of({"servers": [BEFORE, {**OTHER, "not_run": "no such program"}]})
    assert first[3] == "200"
    assert second[3] == "not run here: no such program" and len(second) == len(first)


def test_a_run_of_some_replaces_those_and_keeps_the_rest(tmp_path: Path) -> None:
    """What was measured before stays, in the order of the letters; files hold the same."""
    with pytest.raises(InvalidInput, match="make compare"):
        read(tmp_path)
    save(merged({}, [OURS_ROW, BEFORE], CEILING), tmp_path)
    body = merged(read(tmp_path), [OTHER, {**BEFORE, "max_tps": 210.0}], None)
    assert [(one["name"], one["max_tps"]) for one in body["servers"]] == [("fastapi", 210), ("litserve", 450), ("ours", 1000)]
    assert body["ceiling"] == CEILING
    lines = (tmp_path / "compare.csv").read_text().splitlines()
    assert lines[0].startswith("letter,name") and len(lines) == 3


def test_the_section_says_who_made_it_and_what_held(tmp_path: Path) -> None:
    """performance.md gets the table, the verdicts and the picture; other sections stay."""
    document = tmp_path / "performance.md"
    document.write_text("# Performance\n\n## The path\n\nwords\n")
    body = merged({}, [BEFORE, OTHER, OURS_ROW], CEILING)
    tried = tmp_path / "tried.json"
    tried.write_text(json.dumps({"peers": {"litserve": [{"setting": "two workers", "max_tps": 444.4}]}}))
    publish(body, tmp_path, tried)
    text = document.read_text()
    assert "## The path\n\nwords" in text and "Made by `make compare`" in text
    assert "| held |" in text and "two workers | 444 |" in text
    assert (tmp_path / "compare.png").stat().st_size > 5000
    assert len(json.loads((tmp_path / "performance.json").read_text())["servers"]) == 3
