"""From a measured index to a plan for a larger one: arithmetic alone, each line with its working."""

from __future__ import annotations

import math
from dataclasses import dataclass

from training.evaluation.markdown import table

TRACKS = 100_000_000
QUERIES_S = 900.0
UTILISATION = 0.6  # of the cores at that rate: room for peaks and a lost node
REPLICAS = 2
NODE_CORES, NODE_GIB = 16, 64  # the node that the plan counts in
CORE_HOUR_USD = 0.05  # an assumption to replace with a contract's price, nothing measured
HOURS_A_MONTH = 730
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Figures:
    """What a measured index gives to the plan.

    Attributes:
        rows: items in it.
        disk_bytes: its size.
        serving_bytes: resident memory of a process that serves it.
        query_cpu_s: processor time of one hybrid query, all threads.
        build_cpu_s: processor time of the build, all threads.
    """

    rows: int
    disk_bytes: int
    serving_bytes: int
    query_cpu_s: float
    build_cpu_s: float


def plan(found: Figures) -> str:
    """Markdown: shards, memory, cores, nodes, cost and rebuild time for `TRACKS` at `QUERIES_S`.

    Processor time is taken to grow with the rows, which holds for the sparse sides (their lists grow so) and overstates the
    graph (whose search grows with the logarithm): the plan errs on the dear side.
    """
    times = TRACKS / found.rows
    disk, memory = found.disk_bytes * times, found.serving_bytes * times
    cpu_s = found.query_cpu_s * times
    busy = cpu_s * QUERIES_S
    cores = busy / UTILISATION
    by_memory = math.ceil(REPLICAS * memory / (NODE_GIB * GIB))
    by_cores = math.ceil(cores / NODE_CORES)
    nodes = max(by_memory, by_cores, REPLICAS)
    shards = max(1, nodes // REPLICAS)
    build_s = found.build_cpu_s * times / (shards * NODE_CORES)
    dollars = nodes * NODE_CORES * CORE_HOUR_USD * HOURS_A_MONTH
    per_shard = TRACKS / shards
    rows = [
        ("disk, one copy", f"{found.disk_bytes / found.rows:,.0f} B a row × {TRACKS:,}", f"{disk / GIB:,.0f} GiB"),
        ("memory, one copy", f"{found.serving_bytes / found.rows:,.0f} B a row × {TRACKS:,}", f"{memory / GIB:,.0f} GiB"),
        ("processor time a query", f"{found.query_cpu_s * 1e3:.2f} ms × {times:,.0f}, all shards", f"{cpu_s * 1e3:,.0f} ms"),
        ("cores kept busy", f"{cpu_s * 1e3:,.0f} ms × {QUERIES_S:,.0f} queries/s", f"{busy:,.0f}"),
        ("cores at 60 % use", f"{busy:,.0f} / {UTILISATION}", f"{cores:,.0f}"),
        (f"nodes of {NODE_CORES} cores, {NODE_GIB} GiB", f"the larger of {by_cores:,} by cores, {by_memory:,} by memory of "
         f"{REPLICAS} replicas", f"{nodes:,}"),
        (f"shards, {REPLICAS} replicas each", f"{nodes:,} nodes / {REPLICAS}", f"{shards:,} of {per_shard:,.0f} rows"),
        ("a query on one shard", f"{found.query_cpu_s * 1e3:.2f} ms × {per_shard:,.0f} / {found.rows:,}",
         f"{found.query_cpu_s * per_shard / found.rows * 1e3:,.1f} ms of processor time"),
        ("rebuild, one replica of each shard", f"{found.build_cpu_s / found.rows * 1e3:.2f} ms a row × {TRACKS:,} / "
         f"({shards:,} × {NODE_CORES} cores)", f"{build_s / 60:,.0f} min"),
        ("cost", f"{nodes:,} × {NODE_CORES} cores × {CORE_HOUR_USD} USD a core-hour (assumed) × {HOURS_A_MONTH} h",
         f"{dollars:,.0f} USD a month"),
    ]  # fmt: skip
    return "\n".join(table(("", "from the measured figures", "needed"), rows))
