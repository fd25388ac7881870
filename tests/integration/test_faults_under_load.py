"""Every fault while 120 requests a second come in: all are answered in time, none with a 500, and it heals by itself."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from app.index.cluster_local import LocalServer
from tests.conftest import Serving, command, start, stop
from tests.contract.grpc_qdrant import KEY, grpc_qdrant
from tests.contract.test_cluster_index import build
from tests.contract.test_vector_index import CATALOGUE
from tests.integration.traffic import REFUSED, Traffic

pytestmark = pytest.mark.timeout(120)

DEADLINE_S = 1.5
LATE_S = 0.1  # beyond the deadline; twice `Traffic.lag_s` comes on top
STARVED_S = 0.25  # from this lag on the machine has no processor left for the server,
TURNS = 10  # and every turn of the event loop that a search takes is as late
HEALED_S = 10.0
SLOW_S = 6.0  # where the first start takes longer than this, a fault may take three times as long as that
DOCUMENTED = {200, 429, 503, 504}  # 429: what waits for a model that hangs is not joined by ever more
SETTINGS = {
    "SEARCHBAR_DEADLINE_S": str(DEADLINE_S),
    "SEARCHBAR_CACHE_ENTRIES": "0",  # so that the models are asked
    "SEARCHBAR_RECEIVE_S": "1",
}
Victims = Callable[[Serving], list[int]]


@pytest.fixture(scope="class")
def stack(demo_index: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """One stack for several faults, for it heals; not for all, for after each restart the supervisor waits longer.

    Its index is a copy, and when it has stopped nothing of it is left.
    """
    folder = tmp_path_factory.mktemp("stack")
    shutil.copytree(demo_index, folder / "index")
    running = start(folder / "index", folder / "serve.log", SETTINGS)
    yield running
    below = running.descendants()
    assert stop(running) == 0
    assert leftovers(running, below) == []


def leftovers(stack: Serving, below: list[int]) -> list[str]:
    """Processes and shared memory of a stack that has stopped."""
    held = [name for name in os.listdir("/dev/shm") if name.startswith("searchbar_") and f"_{stack.process.pid}_" in name]
    return held + [found for pid in below if (found := command(pid))]


def metric(stack: Serving, line: str) -> float:
    """Sum of the metric lines that begin so."""
    text = httpx.get(f"{stack.url}/metrics", timeout=10).text
    return sum(float(found.rsplit(" ", 1)[1]) for found in text.splitlines() if found.startswith(line))


def restarts(stack: Serving) -> float:
    return metric(stack, "searchbar_triton_restarts")


def ready(stack: Serving) -> bool:
    try:
        return httpx.get(f"{stack.url}/readyz", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def until(holds: Callable[[], bool], timeout_s: float, what: str) -> float:
    """How long it took, in seconds."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < timeout_s, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.1)
    return time.monotonic() - began


def hold_true(traffic: Traffic, documented: set[int] = DOCUMENTED) -> None:
    """What must be true of all requests, whatever happens."""
    print(f"\n{dict(traffic.statuses())}, lag {traffic.lag_s:.2f} s, longest:", *traffic.longest(5), sep="\n  ")
    assert set(traffic.statuses()) <= documented, {sample.error for sample in traffic.samples if not sample.status}
    turns = 2 if traffic.lag_s < STARVED_S else TURNS
    assert traffic.longest(1)[0].service_ms / 1000 <= DEADLINE_S + LATE_S + turns * traffic.lag_s


def server(stack: Serving) -> list[int]:
    return stack.descendants("bin/tritonserver")[-1:]


def stubs(model: str, count: int) -> Victims:
    return lambda stack: stack.descendants(f"/{model}/")[-count:]


def struck(stack: Serving, victims: list[int], sort: signal.Signals, counted: str, seed: int) -> Traffic:
    """The traffic while these processes are struck, started again as the metric `counted` tells, and all is well again."""
    before = metric(stack, counted)
    with Traffic(stack.url, seed=seed) as traffic:
        time.sleep(0.5)
        for victim in victims:
            os.kill(victim, sort)
        limit_s = HEALED_S if stack.started_s < SLOW_S else max(HEALED_S, 3 * stack.started_s)
        noticed = until(lambda: metric(stack, counted) > before, limit_s, "noticed")
        healed = noticed + until(lambda: ready(stack), limit_s - noticed, "ready again")
        time.sleep(1.0)  # admission finds its limit again
        since = time.perf_counter()
        time.sleep(1.0)
    print(f"noticed after {noticed:.1f} s, healed after {healed:.1f} s")
    hold_true(traffic)
    assert set(traffic.statuses(since=since)) == {200}
    assert metric(stack, counted) == before + 1
    return traffic


def strike_and_heal(stack: Serving, victims: Victims, sort: signal.Signals) -> None:
    traffic = struck(stack, victims(stack), sort, "searchbar_triton_restarts", int(restarts(stack)))
    assert set(traffic.statuses("/v1/search")) <= {200, 429}
    assert traffic.statuses("/v1/spellcheck")[200] < sum(traffic.statuses("/v1/spellcheck").values())


def strike_the_index(stack: Serving, sort: signal.Signals) -> None:
    """Searches fail while the index's process is away, in time and with a status that says so; models are asked as before."""
    healthy = restarts(stack)
    traffic = struck(stack, stack.descendants("app.index.answering"), sort, "searchbar_index_restarts", 20)
    searches = traffic.statuses("/v1/search")
    assert searches[503] + searches[504] > 0
    assert set(traffic.statuses("/v1/spellcheck")) | set(traffic.statuses("/v1/embed")) <= {200, 429}
    assert restarts(stack) == healthy


class TestKilled:
    def test_the_index_is_opened_again(self, stack: Serving) -> None:
        """By another process, within moments."""
        strike_the_index(stack, signal.SIGKILL)

    @pytest.mark.parametrize(
        "victims",
        [
            pytest.param(server, id="server"),
            pytest.param(stubs("embedder", 2), id="the embedder"),
            pytest.param(stubs("speller", 1), id="one speller of two"),
        ],
    )
    def test_what_was_killed_is_started_again(self, stack: Serving, victims: Victims) -> None:
        """Meanwhile searches find by words, who asks for a model alone is told so; within ten seconds all is well."""
        strike_and_heal(stack, victims, signal.SIGKILL)

    def test_clients_that_leave_are_not_worked_for(self, stack: Serving) -> None:
        """With the embedder stopped for a moment, their requests end when they do, in Triton too; others have answers."""
        embedders = stubs("embedder", 2)(stack)
        left = 'searchbar_request_seconds_count{route="/v1/embed",status="499"}'
        before, healthy = metric(stack, left), restarts(stack)
        with Traffic(stack.url, seed=7, shares={"/v1/spellcheck": 1.0}) as traffic:
            for embedder in embedders:
                os.kill(embedder, signal.SIGSTOP)
            try:
                for number in range(20):
                    with socket.create_connection(stack.address) as client:
                        body = b'{"query": "somebody who leaves %d"}' % number
                        client.sendall(
                            b"POST /v1/embed HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                            b"content-length: %d\r\n\r\n%s" % (len(body), body)
                        )
                        time.sleep(0.01)  # it has begun: who leaves while waiting for a turn is not counted
                until(lambda: metric(stack, left) == before + 20, 1.0, "all cancelled")
            finally:
                for embedder in embedders:
                    os.kill(embedder, signal.SIGCONT)
            time.sleep(0.5)
        hold_true(traffic, {200})
        assert restarts(stack) == healthy

    def test_slow_senders_hold_nobody_up(self, stack: Serving) -> None:
        """A hundred that dribble their headers or bodies are cut off after their second; the others notice nothing."""
        dribbled = (
            b"POST /v1/search HTTP/1.1\r\nhost: x\r\n",
            b"POST /v1/search HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n",
        )
        with Traffic(stack.url, seed=8) as traffic:
            held = [socket.create_connection(stack.address) for _ in range(100)]
            for number, client in enumerate(held):
                client.sendall(dribbled[number % 2])
            answers = []
            for client in held:
                client.settimeout(5)
                answers.append(client.recv(4096)[:12])
                client.close()
        assert set(answers) == {b"HTTP/1.1 408"}
        hold_true(traffic, {200})

    def test_files_of_the_index_may_go(self, stack: Serving, tmp_path_factory: pytest.TempPathFactory) -> None:
        """A server holds on to the index that it opened: one that is deleted or replaced is missed at the next start only."""
        with Traffic(stack.url, seed=9, shares={"/v1/search": 1.0}) as traffic:
            time.sleep(0.3)
            shutil.rmtree(stack.log.parent / "index")
            time.sleep(0.7)
        hold_true(traffic, {200})
        assert ready(stack)


class TestHung:
    def test_an_index_that_hangs_is_opened_again(self, stack: Serving) -> None:
        """Nobody waits for it past the deadline."""
        strike_the_index(stack, signal.SIGSTOP)

    @pytest.mark.parametrize(
        "victims",
        [
            pytest.param(server, id="server"),
            pytest.param(stubs("embedder", 2), id="the embedder"),
            pytest.param(stubs("speller", 1), id="one speller of two"),
        ],
    )
    def test_what_hangs_is_started_again(self, stack: Serving, victims: Victims) -> None:
        """Silence is all there is to notice, of a server or of half a model, and nobody waits for it past the deadline."""
        strike_and_heal(stack, victims, signal.SIGSTOP)

    def test_models_five_times_slower_are_left_out(self, stack: Serving) -> None:
        """Searches name the models that are late, or are refused; nothing is started again: that would be slower still."""
        before, degraded = restarts(stack), metric(stack, "searchbar_degraded_total{")
        slow = [*server(stack), *stubs("speller", 2)(stack), *stubs("embedder", 2)(stack)]
        for rate_per_s in (300, 1200, 4800):  # a quick machine holds the first of them with a fifth of its models
            with Traffic(stack.url, seed=11, rate_per_s=rate_per_s) as traffic, slowed(slow):
                time.sleep(5.0)
            hold_true(traffic, {200, 429, 504})
            searches = traffic.statuses("/v1/search")
            assert set(searches) <= {200, 429}
            if late := searches[429] or metric(stack, "searchbar_degraded_total{") > degraded:
                break
        assert late
        assert restarts(stack) == before
        until(lambda: ready(stack), HEALED_S, "ready again")


@contextmanager
def slowed(pids: list[int]) -> Iterator[None]:
    """Let these processes run for a fifth of the time."""
    over = threading.Event()

    def alternate() -> None:
        while not over.is_set():
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            time.sleep(0.08)
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
            time.sleep(0.02)

    thread = threading.Thread(target=alternate)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_cluster_that_is_away_is_named_and_found_again(stack: Serving, tmp_path: Path) -> None:
    """Without its index a search is a 503 that says when to retry, spelling goes on, and all is well once it is back."""
    local = LocalServer()
    build(local, CATALOGUE)
    triton = stack.log.read_text().split("gRPC ")[1].split(",")[0]
    with grpc_qdrant(local) as (port, _, _):
        url = f"qdrant://127.0.0.1:{port}/music?grpc_port={port}"
        gateway = start(url, tmp_path / "serve.log", {**SETTINGS, "SEARCHBAR_TRITON": triton, "SEARCHBAR_INDEX_API_KEY": KEY})
    try:
        with Traffic(gateway.url, seed=12, rate_per_s=60) as traffic:
            time.sleep(3.0)
            away = httpx.post(f"{gateway.url}/v1/search", json={"query": "halo"})
            with grpc_qdrant(local, port):
                until(lambda: ready(gateway), HEALED_S, "ready again")
                time.sleep(1.0)  # the client has several connections, and tries each once a second
                back = time.perf_counter()
                time.sleep(1.0)
                again = time.perf_counter()
                time.sleep(DEADLINE_S)  # what was sent until now is answered before the index goes away once more
        hold_true(traffic, {200, 503})
        assert set(traffic.statuses("/v1/search", back, again)) == {200}
        assert (away.status_code, away.headers["retry-after"]) == (503, "1")
        assert set(traffic.statuses("/v1/spellcheck")) == {200}
    finally:
        stop(gateway)


def test_sigterm_drops_nothing(demo_index: Path, tmp_path: Path) -> None:
    """First it is not ready, then it refuses connections; whatever was sent on one that it took is answered."""
    stack = start(demo_index, tmp_path / "serve.log", {**SETTINGS, "SEARCHBAR_DRAIN_S": "1"})
    below = stack.descendants()
    with Traffic(stack.url, seed=13) as traffic:
        time.sleep(0.5)
        stack.process.terminate()
        told = time.perf_counter()
        time.sleep(0.3)
        assert httpx.get(f"{stack.url}/readyz").status_code == 503
        assert stack.process.wait(20) == 0
    sent = [sample for sample in traffic.samples if REFUSED not in sample.error]
    assert {(sample.status, sample.error) for sample in sent} == {(200, "")}
    assert max(sample.sent for sample in sent) >= told + 1.0
    assert len(sent) < len(traffic.samples)  # it did end under load
    assert leftovers(stack, below) == []
