"""Far more requests at once than are let in, on the real stack."""

from __future__ import annotations

import json
from collections import Counter

import httpx
import uvloop

from app.settings import Settings
from loadtest.connections import Request
from loadtest.openloop import drive
from tests.conftest import Serving


def test_an_overload_is_refused_and_leaves_nothing_behind(serving: Serving) -> None:
    """Of 4,000 different embeddings, twice as many at once as are ever let in, some are answered and the rest refused, none
    fails or hangs; what is asked afterwards is answered whole."""
    before = refused(serving)  # the server is shared
    asked = [Request("/v1/embed", json.dumps({"query": f"overload number {n}"}).encode()) for n in range(4_000)]
    at_once = 2 * Settings().most_limit
    samples = uvloop.run(drive(serving.url, asked, rate_per_s=40_000, duration_s=0.1, connections=at_once, timeout_s=30))
    counted = Counter(sample.status for sample in samples)
    assert set(counted) == {200, 429} and sum(counted.values()) == 4_000
    answer = httpx.post(f"{serving.url}/v1/search", json={"query": "bilie jean"}, timeout=10)
    assert (answer.status_code, answer.json()["degraded"]) == (200, [])
    metrics = httpx.get(f"{serving.url}/metrics", timeout=10).text
    assert 'searchbar_in_flight{class="bulk"} 0.0' in metrics
    assert refused(serving) - before == counted[429]


def refused(serving: Serving) -> float:
    """Bulk requests that admission has refused so far."""
    metrics = httpx.get(f"{serving.url}/metrics", timeout=10).text
    lines = [line for line in metrics.splitlines() if line.startswith('searchbar_refused_total{class="bulk"}')]
    return float(lines[0].rsplit(" ", 1)[1]) if lines else 0.0
