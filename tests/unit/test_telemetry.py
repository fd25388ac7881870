"""Metrics: quantiles of a sliding window, histograms in a registry of their own."""

from __future__ import annotations

import random
import time

import pytest

from app.telemetry import SlidingQuantiles, Telemetry


def test_quantiles_are_those_of_the_samples() -> None:
    """p50, p90 and p99 of 1 to 100 in any order are the values of those ranks."""
    window = SlidingQuantiles()
    samples = [n / 1000 for n in range(1, 101)]
    random.Random(1).shuffle(samples)
    for seconds in samples:
        window.observe("/v1/search", seconds)
    assert window.quantiles("/v1/search") == pytest.approx({0.5: 0.051, 0.9: 0.091, 0.99: 0.1})


def test_one_sample_is_every_quantile() -> None:
    """A single answer is all there is to say."""
    window = SlidingQuantiles()
    window.observe("/", 0.02)
    assert set(window.quantiles("/").values()) == {0.02}


def test_old_samples_leave_the_window() -> None:
    """What is older than the window does not count, and a silent route has no quantile rather than an old one."""
    window = SlidingQuantiles(window_s=0.05)
    window.observe("/", 9.0)
    time.sleep(0.1)
    assert window.quantiles("/") == {}
    window.observe("/", 0.01)
    assert set(window.quantiles("/").values()) == {0.01}


def test_memory_is_bounded() -> None:
    """A busy route keeps its latest samples alone."""
    window = SlidingQuantiles()
    for _ in range(window.MAX_SAMPLES):
        window.observe("/", 9.0)
    for _ in range(window.MAX_SAMPLES):
        window.observe("/", 0.01)
    assert set(window.quantiles("/").values()) == {0.01}


def test_rendered_text_has_every_metric() -> None:
    """What was observed can be read back; the total is not a stage."""
    telemetry = Telemetry()
    telemetry.answered("/v1/search", 200, 0.02)
    telemetry.timed({"speller": 4.0, "total": 5.0})
    text = telemetry.render().decode()
    assert 'searchbar_request_seconds_bucket{le="0.02",route="/v1/search",status="200"} 1.0' in text
    assert 'searchbar_request_seconds_bucket{le="0.015",route="/v1/search",status="200"} 0.0' in text
    assert 'searchbar_stage_seconds_sum{stage="speller"} 0.004' in text
    assert 'stage="total"' not in text
    assert 'searchbar_latency_seconds{quantile="0.9",route="/v1/search"} 0.02' in text


def test_applications_do_not_share_metrics() -> None:
    """Two applications in one process count apart."""
    first, second = Telemetry(), Telemetry()
    first.answered("/", 200, 0.1)
    assert 'route="/"' not in second.render().decode()
