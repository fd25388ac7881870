"""The soak's judgement: what counts as growth, and what the first minutes are forgiven."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import fields, replace
from pathlib import Path

import pytest

from loadtest.connections import Sample
from loadtest.server import Target
from loadtest.soak import BOUNDS, Reading, growth, missed, read, write

STEADY = Reading(0.0, 200.0, 50.0, 600.0, 300, 120, 12.0)
ANSWERED = [Sample("/v1/search", 0.0, 0.0, 0.01, 200)]


def series(rises: dict[str, float], warm_up_rises: float = 0.0) -> list[Reading]:
    """Ten minutes; each series rises by so much in all between minute two and ten, and the memory before that."""
    readings = []
    for second in range(0, 601, 5):
        judged = max(0.0, (second - 120) / 480)
        early = {"triton_mib": STEADY.triton_mib + warm_up_rises * min(1.0, second / 120)}
        changed = {name: getattr(STEADY, name) + rise * judged for name, rise in rises.items()}
        readings.append(replace(STEADY, second=float(second), **{**early, **changed}))
    return readings


@pytest.mark.parametrize("name", list(BOUNDS))
def test_growth_beyond_the_bound_is_named(name: str) -> None:
    """A steady rise is measured as what it adds up to, held below its bound and missed above it."""
    share, least = BOUNDS[name]
    bound = max(share * getattr(STEADY, name), least)
    for factor, wrong in ((0.8, 0), (1.3, 1)):
        grown = growth(series({name: factor * bound}), 120)
        assert grown[name].rise == pytest.approx(factor * bound, rel=0.01)
        found = missed(grown, ANSWERED)
        assert len(found) == wrong and all(name in one for one in found)


def test_the_warm_up_is_forgiven() -> None:
    """Memory that is taken before the line begins is not growth; the same later is."""
    readings = series({}, warm_up_rises=300.0)
    assert missed(growth(readings, 120), ANSWERED) == []
    assert missed(growth(readings, 0), ANSWERED) != []


def test_failures_and_missing_readings_are_misses() -> None:
    """A run that answered wrongly, or of which nothing is known, holds nothing."""
    failed = [*ANSWERED, ANSWERED[0]._replace(status=503)]
    assert missed(growth(series({}), 120), failed) == ["1 of 2 requests failed"]
    assert len(missed(growth([], 120), ANSWERED)) == len(BOUNDS)


def test_a_reading_sees_what_a_process_holds() -> None:
    """Descriptors and memory that this process takes show in its next reading."""
    target = Target("", os.getpid())
    before = read(target, 0.0)
    held = [open("/dev/null") for _ in range(20)]  # noqa: SIM115 (held open on purpose)
    memory = bytearray(os.urandom(32 * 1024 * 1024))
    after = read(target, 1.0)
    for file in held:
        file.close()
    assert after.descriptors - before.descriptors == 20
    assert after.gateway_mib - before.gateway_mib > 0.9 * len(memory) / 1024 / 1024
    assert after.threads >= 1


def test_what_a_run_found_is_written_down(tmp_path: Path) -> None:
    """Every reading in the table, every series' growth and all misses beside it, and a picture."""
    readings = series({"index_mib": 20.0})
    grown = growth(readings, 120)
    picture = write(readings, grown, missed(grown, ANSWERED), 120, tmp_path / "new")
    assert picture.read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader((tmp_path / "new" / "soak.csv").read_text(encoding="utf-8").splitlines()))
    assert list(rows[0]) == [field.name for field in fields(Reading)] and len(rows) == len(readings)
    body = json.loads((tmp_path / "new" / "soak.json").read_text(encoding="utf-8"))
    assert set(body["growth"]) == set(BOUNDS) and [one.split()[0] for one in body["missed"]] == ["index_mib"]
