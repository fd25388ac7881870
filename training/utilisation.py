"""How busy a device is while something runs on it: NVML for a GPU, this process's CPU time otherwise."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from types import TracebackType

import psutil
import torch


class Sampler:
    """Samples a device's utilisation and this process's memory in a thread while its block runs.

    Attributes:
        peak_mb: most resident memory seen.
        others: cores that other processes kept busy, on average over the block; set at its end.
    """

    INTERVAL_S = 0.05

    def __init__(self, share: Callable[[], float]) -> None:
        self._share, self._process, self._stop = share, psutil.Process(), threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._busy_s = self._span_s = 0.0
        self.peak_mb = self.others = 0.0

    @property
    def utilisation(self) -> float:
        """Mean share, 0–1, weighted by time; the kernel's clock ticks may put it a hair above 1, which is cut off."""
        return min(1.0, self._busy_s / self._span_s)

    def __enter__(self) -> Sampler:
        self._share()  # what was before is not counted
        psutil.cpu_percent()
        self._own_s = self._cpu_s()
        self._last = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        self._sample()
        busy = psutil.cpu_percent() / 100 * (psutil.cpu_count() or 1)
        self.others = max(0.0, busy - (self._cpu_s() - self._own_s) / self._span_s)

    def _cpu_s(self) -> float:
        spent = self._process.cpu_times()
        return float(spent.user + spent.system)

    def _loop(self) -> None:
        while not self._stop.wait(self.INTERVAL_S):
            self._sample()

    def _sample(self) -> None:
        share, now = self._share(), time.perf_counter()
        self._busy_s += share * (now - self._last)
        self._span_s += now - self._last
        self._last = now
        self.peak_mb = max(self.peak_mb, self._process.memory_info().rss / 1e6)


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def probe(device: torch.device) -> Callable[[], float]:
    """Share of the device in use, 0–1: of a GPU by NVML, of all CPU cores by this process since the last call."""
    if device.type == "cpu":
        process, count = psutil.Process(), cores()
        return lambda: process.cpu_percent() / 100 / count
    import pynvml

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
    return lambda: float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu) / 100
