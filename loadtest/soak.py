"""Hours in minutes: does a server that is used without a pause keep more and more memory, descriptors or threads?"""

from __future__ import annotations

import asyncio
import csv
import json
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from app.index.wire import PROCESS as INDEX
from app.triton_launcher import owner_prefix
from loadtest.connections import Request, Sample
from loadtest.openloop import drive
from loadtest.scenarios import SEED, STATED
from loadtest.server import Target, process_cpu, proportional_set, tree

SCENARIO = STATED["mixed-zipf"]
# Caches that are full when the warm-up is over: one that fills is not a leak. So small, they also ask the models more.
SETTINGS = {"SEARCHBAR_CACHE_ENTRIES": "2000", "SEARCHBAR_SEARCH_CACHE_ENTRIES": "2000", "SEARCHBAR_LOG_LEVEL": "warning"}
EVERY_S = 5.0
WARM_UP_S = 60.0  # and a fifth of the run at least
# During the warm-up so many times the rate: what is remembered of words and names is bounded, but a Zipf log fills it slowly.
WARM_UP_RATE = 3.0
MIB = 1024 * 1024
ANONYMOUS = "Pss_Anon"


@dataclass(frozen=True, slots=True)
class Reading:
    """What the server's processes hold at one moment.

    Attributes:
        second: of the run.
        gateway_mib, index_mib, triton_mib: anonymous memory of the gateway, of the index's processes and of all else it has
            started. Files that are mapped are left out: what they weigh depends on who else on the machine maps them.
        descriptors, threads: of all its processes.
        shared_mib: files in /dev/shm that belong to it.
    """

    second: float
    gateway_mib: float
    index_mib: float
    triton_mib: float
    descriptors: int
    threads: int
    shared_mib: float


# What a series may grow between warm-up and end, by its fitted line: a share of its mean, or so much where that is more.
BOUNDS = {
    "gateway_mib": (0.05, 8.0),
    "index_mib": (0.05, 8.0),
    "triton_mib": (0.05, 8.0),
    "descriptors": (0.0, 8.0),
    "threads": (0.0, 4.0),
    "shared_mib": (0.0, 1.0),
}
STYLES = {  # colour and dashes of each series in the picture
    "gateway_mib": ("accent", "-"),
    "index_mib": ("accent", ":"),
    "triton_mib": ("ink", "-"),
    "descriptors": ("line", "-"),
    "threads": ("soft", "-"),
    "shared_mib": ("soft", ":"),
}


@dataclass(frozen=True, slots=True)
class Growth:
    """A series' fitted line between warm-up and end: its mean, how much it rises, and how much it may."""

    mean: float
    rise: float
    bound: float


def read(target: Target, second: float) -> Reading:
    """The present reading of a server of ours."""
    assert target.pid is not None
    pids = tree(target.pid)
    indexes = [pid for pid in pids[1:] if (cpu := process_cpu(pid)) and cpu[0] == INDEX]
    prefix = owner_prefix(target.pid)
    return Reading(
        round(second, 1),
        proportional_set(target.pid, ANONYMOUS) / MIB,
        sum(proportional_set(pid, ANONYMOUS) for pid in indexes) / MIB,
        sum(proportional_set(pid, ANONYMOUS) for pid in pids[1:] if pid not in indexes) / MIB,
        sum(entries(f"/proc/{pid}/fd") for pid in pids),
        sum(entries(f"/proc/{pid}/task") for pid in pids),
        sum(file.stat().st_blocks * 512 for file in Path("/dev/shm").glob(f"{prefix}*")) / MIB,
    )


def entries(directory: str) -> int:
    """How many there are; none of a process that has gone."""
    try:
        return len(os.listdir(directory))
    except OSError:
        return 0


def growth(readings: Sequence[Reading], warm_up_s: float) -> dict[str, Growth]:
    """A least-squares line through each series after the warm-up."""
    kept = [reading for reading in readings if reading.second >= warm_up_s]
    seconds = np.array([reading.second for reading in kept])
    found = {}
    for name, (share, least) in BOUNDS.items():
        values = np.array([float(getattr(reading, name)) for reading in kept])
        slope = float(np.polyfit(seconds, values, 1)[0]) if len(kept) > 1 else float("nan")
        mean = float(values.mean()) if kept else float("nan")
        found[name] = Growth(mean, slope * float(np.ptp(seconds)) if kept else float("nan"), max(share * mean, least))
    return found


def missed(grown: dict[str, Growth], samples: Sequence[Sample]) -> list[str]:
    """What the run did not hold; empty when it held everything."""
    wrong = [f"{name} grew by {g.rise:.1f}, bound {g.bound:.1f}" for name, g in grown.items() if not g.rise <= g.bound]
    failed = sum(sample.status != 200 for sample in samples)
    return [*wrong, *([f"{failed} of {len(samples)} requests failed"] if failed else [])]


def run(
    target: Target, minutes: float, rate_per_s: float, progress: Callable[[float], None]
) -> tuple[list[Reading], list[Sample]]:
    """Drive `target` with mixed Zipf traffic and read it every `EVERY_S`; `progress` is told the seconds that have passed."""
    return uvloop.run(soak(target, minutes * 60, rate_per_s, progress))


async def soak(
    target: Target, seconds: float, rate_per_s: float, progress: Callable[[float], None]
) -> tuple[list[Reading], list[Sample]]:
    readings: list[Reading] = []
    began = time.monotonic()

    async def watch() -> None:
        while (now := time.monotonic() - began) < seconds:
            readings.append(await asyncio.to_thread(read, target, now))
            progress(now)
            await asyncio.sleep(EVERY_S - (time.monotonic() - began) % EVERY_S)

    watching = asyncio.create_task(watch())
    asked, warm_s = requests(), warm_up(seconds / 60)
    samples = []
    for rate, duration_s in ((WARM_UP_RATE * rate_per_s, warm_s), (rate_per_s, seconds - warm_s)):
        samples += await drive(target.url, asked, rate_per_s=rate, duration_s=duration_s, seed=SEED)
    await watching
    return readings, samples


def requests() -> Iterator[Request]:
    rng = random.Random(SEED)
    routes, shares = zip(*SCENARIO.routes, strict=True)
    for query in SCENARIO.queries():
        yield Request(f"/v1/{rng.choices(routes, shares)[0]}", json.dumps({"query": query.text}).encode())


def warm_up(minutes: float) -> float:
    """Seconds of a run that are not judged."""
    return max(WARM_UP_S, minutes * 60 / 5)


def write(readings: Sequence[Reading], grown: dict[str, Growth], wrong: list[str], warm_up_s: float, out: Path) -> Path:
    """Write soak.csv, soak.json and soak.png into `out`; returns the picture."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "soak.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow([field.name for field in fields(Reading)])
        table.writerows([getattr(reading, field.name) for field in fields(Reading)] for reading in readings)
    body: dict[str, Any] = {"growth": {name: asdict(g) for name, g in grown.items()}, "missed": wrong}
    (out / "soak.json").write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    plot(readings, grown, warm_up_s, out / "soak.png")
    return out / "soak.png"


def plot(readings: Sequence[Reading], grown: dict[str, Growth], warm_up_s: float, path: Path) -> None:
    """Each series as a percentage of its mean after the warm-up."""
    from training.evaluation.plots import canvas

    figure, (axis,), colours = canvas(9, 3.6, 1)
    minutes = [reading.second / 60 for reading in readings]
    for name, (colour, dashes) in STYLES.items():
        mean = grown[name].mean or 1.0
        values = [100 * getattr(reading, name) / mean for reading in readings]
        axis.plot(minutes, values, color=colours[colour], linestyle=dashes, linewidth=1.6, label=name.replace("_", " "))
    axis.axvline(warm_up_s / 60, color=colours["soft"], linewidth=1, linestyle=(0, (4, 3)))
    axis.set_xlabel("minutes; judged from the dashed line on", color=colours["soft"])
    axis.set_ylabel("% of the mean", color=colours["soft"])
    axis.grid(color=colours["sunken"])
    axis.legend(frameon=False, labelcolor=colours["ink"], ncols=6, loc="upper left", fontsize=8)
    figure.savefig(path)
