"""Search-bar traffic for Locust: `make load`, with Searchbar running, opens its web page; or headless:

    .venv/bin/locust -f loadtest/locustfile.py --host http://127.0.0.1:8080 --headless -u 50 -r 50 -t 30s

Queries are catalogue names drawn by popularity; seven of ten have lost one letter. Each user asks five times a second, so 50
users are 250 requests a second. The stated loads, their limits and the comparison with other servers are still to come.
"""

import csv
import itertools
import os
import random
from pathlib import Path

from locust import FastHttpUser, constant_throughput, task

CATALOGUE = Path(os.environ.get("CATALOGUE", Path(__file__).parents[1] / "app" / "data" / "demo.csv"))


def load(path: Path) -> tuple[list[str], list[float]]:
    """Lower-case names and how often each is asked for."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if len(row["title"]) > 3]
    return [row["title"].lower() for row in rows], [float(row.get("popularity") or 1) for row in rows]


class Listener(FastHttpUser):
    """Someone typing into the bar."""

    wait_time = constant_throughput(5)
    names, weights = load(CATALOGUE)
    seeds = itertools.count()

    def on_start(self) -> None:
        self.rng = random.Random(next(self.seeds))

    def query(self) -> str:
        name = self.rng.choices(self.names, self.weights)[0]
        if self.rng.random() < 0.7:
            at = self.rng.randrange(1, len(name))
            name = name[:at] + name[at + 1 :]
        return name

    @task(3)
    def search(self) -> None:
        self.client.post("/v1/search", json={"query": self.query()})

    @task(1)
    def spellcheck(self) -> None:
        self.client.post("/v1/spellcheck", json={"query": self.query()})

    @task(1)
    def embed(self) -> None:
        self.client.post("/v1/embed", json={"query": self.query()})
