"""Two servers of this code in turn, on the real stack."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest import in_turn
from loadtest.in_turn import QUIET, Variant, body, scenario, serving
from loadtest.server import tree


def test_two_servers_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One by TCP, one by its socket and without a cache: each answers what it is asked, and none is left."""
    monkeypatch.setattr(in_turn, "WARM_UP_S", 0.5)
    monkeypatch.setattr(in_turn, "AFTER_S", 0.5)
    load = scenario("spellcheck-zipf", 60.0)
    variants = [Variant.parse("SEARCHBAR_INDEX_PROCESSES=0"), Variant.parse("socket SEARCHBAR_CACHE_ENTRIES=0")]
    with serving(variants, load.environment() | QUIET, tmp_path) as targets:
        visits = in_turn.in_turn(load, targets, 1.0, 2, lambda line: None, rest_s=0.0)
        started = [pid for target in targets if target.pid for pid in tree(target.pid)]
        assert [target.socket is not None for target in targets] == [False, True] and len(started) >= 4
    for some in visits:
        assert [one.burst.goodput_per_s for one in some] == [60.0, 60.0]
        assert all(not part.failures and not part.refused for one in some for part in (one.burst, one.after))
    assert body(variants, visits, 5.0).count("\n") == 3
    assert not any(Path(f"/proc/{pid}").exists() for pid in started)
