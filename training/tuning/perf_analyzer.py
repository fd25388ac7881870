"""NVIDIA's load generator `perf_analyzer`: made runnable, run, read. The one module that knows it.

The binary lies in the Linux wheel `tritonclient` 2.51, the last that carries it; `make analyzer` unpacks it into
`.venv-analyzer`. It is linked to two libraries that a CPU machine lacks: the CUDA runtime, which the `nvidia-pytriton` wheel
brings under another name, and libb64.
"""

from __future__ import annotations

import asyncio
import csv
import os
import subprocess
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan
from pathlib import Path

from app.errors import SetupError

BINARY = Path("bin") / "perf_analyzer"
LIBB64 = "apt-get install libb64-0d"


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement.

    Attributes:
        concurrency: requests in flight; 0 when they were sent at a rate instead.
        throughput: inferences a second, a request of a batch counting as many as it holds.
        p50_ms, p90_ms, p99_ms: latency that so many in a hundred requests keep, measured at the client from when they left.
    """

    concurrency: int
    throughput: float
    p90_ms: float
    p50_ms: float = nan
    p99_ms: float = nan


@dataclass(frozen=True, slots=True)
class PerfAnalyzer:
    """A `perf_analyzer` that starts on this machine."""

    binary: Path
    libraries: Path

    @classmethod
    def prepare(cls, venv: Path) -> PerfAnalyzer:
        """Links what the binary in `venv` lacks beside it and starts it once.

        Raises:
            SetupError: it is not there or does not start; the message names the cure.
        """
        binary = (venv / BINARY).absolute()
        if not binary.is_file():
            raise SetupError(f"there is no perf_analyzer at {binary}: run `make analyzer`")
        libraries = binary.parent.parent / "lib" / "perf_analyzer"
        libraries.mkdir(parents=True, exist_ok=True)
        bundled = Path(sysconfig.get_path("purelib")) / "nvidia_pytriton.libs"
        runtime = next(bundled.glob("libcudart-*.so.12*"), None)
        if runtime is None:
            raise SetupError(f"{bundled} has no CUDA runtime: run `pip install --force-reinstall --no-deps nvidia-pytriton`")
        link = libraries / "libcudart.so.12"
        link.unlink(missing_ok=True)
        link.symlink_to(runtime)
        found = cls(binary, libraries)
        found._check()
        return found

    def _check(self) -> None:
        done = subprocess.run([self.binary, "--version"], capture_output=True, text=True, env=self.environment(), timeout=60)
        said = done.stdout + done.stderr
        if "libb64" in said:
            raise SetupError(f"perf_analyzer needs libb64: run `{LIBB64}` (Debian, Ubuntu)")
        if "error while loading shared libraries" in said or "ersion" not in said:
            raise SetupError(f"perf_analyzer does not start: {said.strip()[:500]}")

    def environment(self) -> dict[str, str]:
        """This process's environment with the libraries that perf_analyzer needs."""
        paths = filter(None, (str(self.libraries), os.environ.get("LD_LIBRARY_PATH")))
        return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(paths)}

    async def measure(self, model: str, url: str, data: Path, concurrency: int, requests: int, timeout_s: float = 60) -> Point:
        """One measurement by gRPC, requests of batch 1: three windows of at least a second and `requests` answers each.

        Raises:
            SetupError: perf_analyzer failed or measured nothing; quotes what it said.
        """
        load = ("--concurrency-range", str(concurrency))
        return await self._run(model, url, data, (*load, *windows(requests)), timeout_s)

    async def measure_rate(
        self, model: str, url: str, data: Path, per_s: float, seconds: float, timeout_s: float = 60
    ) -> Point:
        """One measurement by gRPC, single requests sent `per_s` times a second at equal pauses; three windows of `seconds`.

        Raises:
            SetupError: as `measure`.
        """
        load = ("--request-rate-range", f"{per_s:g}", "--request-distribution", "constant")
        return await self._run(model, url, data, (*load, "--measurement-interval", str(round(1000 * seconds))), timeout_s)

    async def _run(self, model: str, url: str, data: Path, load: Sequence[str], timeout_s: float) -> Point:
        report = data.with_name(f"{model}.csv")
        report.unlink(missing_ok=True)
        command = [
            *(str(self.binary), "-m", model, "-u", url, "-i", "grpc", "--async", "--input-data", str(data)),
            *("--percentile", "90", *load),
            # Three windows, whatever they differ by: the rounds of a run tell how steady the machine is.
            *("--stability-percentage", "100000", "--max-trials", "3"),
            *("--max-threads", "2", "-f", str(report)),
        ]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=self.environment()
        )
        try:
            said, _ = await asyncio.wait_for(process.communicate(), timeout_s)
        except asyncio.TimeoutError as exc:
            raise SetupError(f"perf_analyzer did not end within {timeout_s:.0f} s on {model}") from exc
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode or not report.is_file():
            lines = said.decode(errors="replace").strip().splitlines()
            raise SetupError(f"perf_analyzer failed on {model}:\n" + "\n".join(lines[-8:]))
        return parse(report.read_text(encoding="utf-8"))


def windows(requests: int) -> tuple[str, ...]:
    """Not --request-count: that divides by whole seconds, in which the last answers may have come long before the end."""
    return ("--measurement-mode", "count_windows", "--measurement-request-count", str(requests))


def parse(report: str) -> Point:
    """The point of a `perf_analyzer -f` report of one concurrency or rate.

    Raises:
        SetupError: it holds no measurement.
    """
    rows = list(csv.DictReader(report.splitlines()))
    try:
        return _point(rows[-1])
    except (IndexError, KeyError, ValueError) as exc:
        raise SetupError(f"perf_analyzer's report holds no measurement: {report[:300]!r}") from exc


def _point(row: Mapping[str, str]) -> Point:
    p50, p90, p99 = (float(row.get(f"p{q} latency") or nan) / 1000 for q in (50, 90, 99))
    if isnan(p90):
        raise ValueError("no p90")
    return Point(int(row.get("Concurrency") or 0), float(row["Inferences/Second"]), p90, p50, p99)
