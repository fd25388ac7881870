"""One trace from the gateway into Triton: both real, both sending to one collector."""

from __future__ import annotations

import httpx
import pytest

from app.settings import ROOT
from tests.tracing import trace

QUERY = {"query": "bilie jean micheal jackson"}


@pytest.fixture(scope="module")
def spans(demo_index):
    """The spans of one search, gateway's and Triton's; their trace was begun by the caller."""
    with trace.Collector() as collector, trace.traced_stack(collector, demo_index) as url:
        httpx.post(f"{url}/v1/embed", json={"query": "another trace"}, timeout=60).raise_for_status()
        asked = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
        httpx.post(f"{url}/v1/search", json=QUERY, headers=asked, timeout=60).raise_for_status()
        found = trace.settled(collector, "4bf92f3577b34da6a3ce929d0e0e4736", 60)
        canaries = [span for span in collector.spans if span.service == "searchbar-triton" and not span.parent]
    assert canaries == []  # Triton traces what the gateway traces, not the supervisor's canaries
    return found


def below(spans, root):
    children = [span for span in spans if span.parent == root.id]
    return children + [span for child in children for span in below(spans, child)]


def test_one_trace_shows_the_fan_out(spans):
    """Request → stages → batch → gRPC call → Triton's request and every model that it ran."""
    (request,) = (span for span in spans if span.name == "POST /v1/search")
    assert request.parent == "00f067aa0ba902b7"
    for stage in ("embedder", "speller"):
        first = next(span for span in spans if span.name == stage and span.parent == request.id)
        inside = below(spans, first)
        of_triton = [span for span in inside if span.service == "searchbar-triton"]
        assert {"batch", f"ModelInfer {stage}"} <= {span.name for span in inside if span.service == "searchbar-gateway"}
        assert {span.name for span in of_triton} >= {stage, "InferRequest", "compute"}
        assert all(first.began <= span.began < first.ended for span in inside)  # Triton's own ends a little after its answer
    assert "index" in {span.name for span in spans if span.parent == request.id}


def test_the_waterfall_has_a_line_for_each_span(spans):
    """What docs/tracing.md shows: a header and every span once, and its services are those of the document."""
    lines = trace.waterfall(spans).splitlines()
    assert len(lines) == len(spans) + 1
    shown = (ROOT / "docs" / "tracing.md").read_text(encoding="utf-8")
    for span in spans:
        assert span.name in shown
