"""Where a request's milliseconds go: what is read from Triton, and that a route's stages add up."""

from __future__ import annotations

import pytest

from loadtest.budget import ROUTES, Asked, body, spent_ms

METRICS = """# HELP nv_inference_request_duration_us Cumulative inference request duration in microseconds
nv_inference_request_duration_us{model="speller_decoder",version="1"} 12500
nv_inference_request_duration_us{model="embedder",version="1"} 3000
nv_inference_queue_duration_us{model="embedder",version="1"} 7
nv_inference_request_success{model="embedder",version="1"} 4
"""
MODEL_MS = {"embedder": 2.0, "speller": 6.0}
TIMINGS = {
    "embed": {"embedder": 2.6, "total": 2.7},
    "spellcheck": {"speller": 7.5, "total": 7.6},
    "search": {"speller": 8.0, "embedder": 3.0, "index": 2.0, "total": 12.0},
}


def test_triton_counters_are_read_by_model() -> None:
    """Durations alone, in milliseconds."""
    assert spent_ms(METRICS) == {"speller_decoder": 12.5, "embedder": 3.0}


@pytest.mark.parametrize("route", sorted(ROUTES))
def test_the_stages_of_a_route_add_up(route: str) -> None:
    """What the caller saw is what the stages take together, and none is counted twice."""
    asked = Asked([12.9, 13.1, 13.0], [TIMINGS[route]] * 3, MODEL_MS)
    stages = ROUTES[route](asked)
    assert sum(ms for _, ms in stages) == pytest.approx(13.0)
    assert all(ms > 0 for _, ms in stages)
    assert f"| **p50 of the caller** | **{asked.p50_ms:.2f}** |" in body({route: asked})
