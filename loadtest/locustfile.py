"""Search-bar traffic for Locust: `make load`, with Searchbar running, opens its web page; or headless:

    .venv/bin/locust -f loadtest/locustfile.py --host http://127.0.0.1:8080 --scenario spellcheck-zipf --headless -t 60s

Each user asks five times a second; as many start as the scenario's rate needs. They keep to times of their own, unlike with
Locust's `constant_throughput`, which counts from when the last question was asked: after one stall all would ask together for
good, 170 at once every 200 ms. Ends with status 1 when p90 or the failures miss what the scenario states. Users wait for their
answers, so a server that stalls is asked less meanwhile: `searchbar load` has the generator that does not forgive that.
"""

import itertools
import os
import random
import sys
from pathlib import Path
from time import perf_counter

import gevent
from locust import FastHttpUser, events, task
from locust.env import Environment

sys.path.append(str(Path(__file__).resolve().parents[1]))  # Locust runs without Searchbar installed, in its image

from loadtest.scenarios import SEED, STATED
from loadtest.traffic import CATALOGUE, distinct, names, zipf

PER_USER = 5.0
MOST_FAILURES = 0.0  # share of requests


@events.init_command_line_parser.add_listener
def options(parser) -> None:
    parser.add_argument("--scenario", choices=list(STATED), default="mixed-zipf", help="the stated load to drive")
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second instead of the scenario's")
    parser.add_argument("--warm-up", type=float, default=5.0, help="seconds at the start that do not count")


@events.init.add_listener
def prepare(environment: Environment, **_) -> None:
    """The traffic of the chosen scenario, and as many users as its rate needs where none are given."""
    chosen = STATED[environment.parsed_options.scenario]
    rate = environment.parsed_options.rate or chosen.rate_per_s
    draw = distinct if chosen.traffic == "distinct" else zipf
    Listener.routes, Listener.shares = zip(*chosen.routes, strict=True)
    Listener.queries = draw(names(Path(os.environ.get("CATALOGUE", CATALOGUE))), SEED + 1)  # not those in the caches by then
    if environment.parsed_options.num_users is None:
        environment.parsed_options.num_users = environment.parsed_options.spawn_rate = round(rate / PER_USER)


@events.test_start.add_listener
def forget_the_warm_up(environment: Environment, **_) -> None:
    def reset() -> None:
        environment.stats.clear_all()

    gevent.spawn_later(environment.parsed_options.warm_up, reset)


@events.quitting.add_listener
def judge(environment: Environment, **_) -> None:
    """Status 1 when p90 or the failures miss what is stated."""
    chosen, total = STATED[environment.parsed_options.scenario], environment.stats.total
    p90 = total.get_response_time_percentile(0.9) or float("inf")
    held = p90 <= chosen.p90_ms and total.fail_ratio <= MOST_FAILURES
    print(
        f"{chosen.name}: p90 {p90:g} ms (limit {chosen.p90_ms:g}), {100 * total.fail_ratio:.2f} % failed, "
        f"{total.total_rps:.0f} requests/s: {'held' if held else 'MISSED'}"
    )
    environment.process_exit_code = 0 if held else 1


class Listener(FastHttpUser):
    """Someone typing into the bar."""

    seeds = itertools.count()
    queries = iter(())  # one log for all users

    def on_start(self) -> None:
        self.rng = random.Random(next(self.seeds))
        self.due = perf_counter() + self.rng.random() / PER_USER  # not all at once
        gevent.sleep(self.due - perf_counter())

    def wait_time(self) -> float:
        """Seconds until the next question is due, which does not move when one is late."""
        self.due += 1 / PER_USER
        return max(0.0, self.due - perf_counter())

    @task
    def ask(self) -> None:
        route = self.rng.choices(self.routes, self.shares)[0]
        self.client.post(f"/v1/{route}", json={"query": next(self.queries).text})
