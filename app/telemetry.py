"""Prometheus metrics: histograms per route and stage, and quantiles of a sliding window for people without a Prometheus."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.admission import Admission
from app.cache import AnswerCache

# Seconds; dense around 25 ms, the latency the service is built to hold.
BUCKETS = (0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5)
QUANTILES = (0.5, 0.9, 0.99)
CLIENT_LEFT = 499  # as nginx counts them: cancelled before they were answered, because nobody waited any more


class SlidingQuantiles(Collector):
    """p50, p90 and p99 of each route over the last `window_s` seconds, worked out when they are read."""

    MAX_SAMPLES = 20_000  # a route

    def __init__(self, window_s: float = 60.0) -> None:
        self.window_s = window_s
        self._samples: dict[str, deque[tuple[float, float]]] = defaultdict(lambda: deque(maxlen=self.MAX_SAMPLES))

    def observe(self, route: str, seconds: float) -> None:
        self._samples[route].append((time.monotonic(), seconds))

    def quantiles(self, route: str) -> dict[float, float]:
        """Quantile → seconds; empty when nothing was answered in the window."""
        oldest = time.monotonic() - self.window_s
        recent = sorted(seconds for at, seconds in list(self._samples[route]) if at >= oldest)
        if not recent:
            return {}
        return {q: recent[min(int(q * len(recent)), len(recent) - 1)] for q in QUANTILES}

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "searchbar_latency_seconds", f"Latency over the last {self.window_s:.0f} s", labels=["route", "quantile"]
        )
        for route in list(self._samples):
            for q, seconds in self.quantiles(route).items():
                family.add_metric([route, str(q)], seconds)
        yield family


class CacheCounts(Collector):
    """What the caches have counted themselves, read when it is asked for."""

    def __init__(self) -> None:
        self.caches: dict[str, AnswerCache[Any, Any]] = {}

    def collect(self) -> Iterator[Metric]:
        lookups = CounterMetricFamily("searchbar_cache", "Answers by where they came from", labels=["part", "outcome"])
        evictions = CounterMetricFamily("searchbar_cache_evictions", "Answers dropped to make room", labels=["part"])
        entries = GaugeMetricFamily("searchbar_cache_entries", "Answers held", labels=["part"])
        for part, cache in self.caches.items():
            for outcome, count in (("hit", cache.hits), ("miss", cache.misses), ("shared", cache.shared)):
                lookups.add_metric([part, outcome], count)
            evictions.add_metric([part], cache.evictions)
            entries.add_metric([part], cache.size)
        yield from (lookups, evictions, entries)


class AdmissionCounts(Collector):
    """What admission has counted itself, read when it is asked for: a refusal must cost next to nothing."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission

    def collect(self) -> Iterator[Metric]:
        limit = GaugeMetricFamily("searchbar_admission_limit", "Requests that may be in flight")
        limit.add_metric([], self.admission.limit.limit)
        in_flight = GaugeMetricFamily("searchbar_in_flight", "Requests being answered", labels=["class"])
        refused = CounterMetricFamily("searchbar_refused", "Requests turned away at once with 429", labels=["class"])
        for which, count in self.admission.in_flight.items():
            in_flight.add_metric([which], count)
            refused.add_metric([which], self.admission.refused[which])
        yield from (limit, in_flight, refused)


class Telemetry:
    """One application's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Histogram(
            "searchbar_request_seconds", "Time to answer", ["route", "status"], buckets=BUCKETS, registry=self.registry
        )
        self.stages = Histogram(
            "searchbar_stage_seconds", "Time a stage took", ["stage"], buckets=BUCKETS, registry=self.registry
        )
        self.degraded = Counter("searchbar_degraded_total", "Answers that left a part out", ["part"], registry=self.registry)
        self.restarts = Gauge("searchbar_triton_restarts", "Restarts of the embedded Triton", registry=self.registry)
        self.index_restarts = Gauge("searchbar_index_restarts", "Restarts of the index's processes", registry=self.registry)
        self.connections = Gauge("searchbar_connections", "Connections open", registry=self.registry)
        self.refused = Counter(
            "searchbar_connections_refused_total", "Connections closed before a request was complete", ["reason"],
            registry=self.registry,
        )  # fmt: skip
        # The series found before: `labels` makes strings and takes a lock to find one.
        self._of_request: dict[tuple[str, int], Histogram] = {}
        self._of_stage: dict[str, Histogram] = {}
        self.window = SlidingQuantiles()
        self.registry.register(self.window)
        self._cache_counts = CacheCounts()
        self.registry.register(self._cache_counts)
        ProcessCollector(registry=self.registry)  # the gateway's CPU seconds, memory and open files

    def watch(self, part: str, cache: AnswerCache[Any, Any]) -> None:
        """Show the counts of `cache` under the name of its part from now on."""
        self._cache_counts.caches[part] = cache

    def watch_admission(self, admission: Admission) -> None:
        """Show the counts of `admission` from now on."""
        self.registry.register(AdmissionCounts(admission))

    def answered(self, route: str, status: int, seconds: float) -> None:
        found = self._of_request.get((route, status))
        if found is None:
            found = self._of_request[route, status] = self.requests.labels(route, str(status))
        found.observe(seconds)
        if status != CLIENT_LEFT:  # nobody was answered
            self.window.observe(route, seconds)

    def timed(self, timings_ms: dict[str, float]) -> None:
        for stage, took in timings_ms.items():
            if stage == "total":
                continue
            found = self._of_stage.get(stage)
            if found is None:
                found = self._of_stage[stage] = self.stages.labels(stage)
            found.observe(took / 1000)

    def render(self) -> bytes:
        """The text exposition format."""
        return generate_latest(self.registry)
