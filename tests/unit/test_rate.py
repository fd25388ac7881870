"""The token bucket, on a clock that stands still until it is told otherwise."""

from __future__ import annotations

import pytest

from app.rate import TokenBucket


class Clock:
    """Seconds that pass when a test says so; fulfils what the bucket asks of `time.monotonic`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("rate_per_s", "burst"), [(1.0, 1), (10.0, 3), (0.5, 2), (1000.0, 1)])
def test_a_burst_passes_and_then_one_at_a_time(rate_per_s: float, burst: int) -> None:
    """As many as the burst at once; the next one is told exactly when there will be a token, and passes then."""
    clock = Clock()
    bucket = TokenBucket(rate_per_s, burst, clock)
    assert [bucket.take() for _ in range(burst)] == [0.0] * burst
    wait_s = bucket.take()
    assert wait_s == pytest.approx(1 / rate_per_s)
    clock.now += wait_s * 0.9
    assert bucket.take() == pytest.approx(wait_s * 0.1)
    clock.now += wait_s * 0.11
    assert bucket.take() == 0.0


def test_the_rate_holds_in_the_long_run() -> None:
    """Of ten times as many requests over a minute, rate × time and the burst pass, and no more."""
    clock = Clock()
    bucket = TokenBucket(20.0, 40, clock)
    passed = 0
    for _ in range(200 * 60):
        passed += bucket.take() == 0.0
        clock.now += 1 / 200
    assert passed == pytest.approx(20 * 60 + 40, abs=2)


def test_idle_time_is_not_saved_beyond_the_burst() -> None:
    """After a day without a request it is the burst that passes, not a day's worth."""
    clock = Clock()
    bucket = TokenBucket(5.0, 7, clock)
    clock.now += 86_400
    assert sum(bucket.take() == 0.0 for _ in range(100)) == 7
