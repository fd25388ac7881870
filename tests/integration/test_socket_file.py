"""`SEARCHBAR_SOCKET` on the whole stack, and the load generator that asks by it."""

from __future__ import annotations

from pathlib import Path

import httpx
import uvloop

from loadtest.connections import Request
from loadtest.openloop import drive
from loadtest.server import started
from tests.conftest import start, stop


def test_the_stack_answers_by_a_file(demo_index: Path, tmp_path: Path) -> None:
    """A misspelt search, as by the port; Ctrl-C takes the file away."""
    file = tmp_path / "searchbar.sock"
    serving = start(demo_index, tmp_path / "serve.log", {"SEARCHBAR_SOCKET": str(file)})
    try:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(file)), base_url="http://localhost", timeout=10) as client:
            by_file = client.post("/v1/search", json={"query": "bilie jean micheal jackson"}).json()
        by_port = httpx.post(f"{serving.url}/v1/search", json={"query": "bilie jean micheal jackson"}, timeout=10).json()
        assert by_file["corrected"] == "billie jean michael jackson" and by_file["hits"] == by_port["hits"] != []
        assert str(file) in serving.log.read_text()
    finally:
        assert stop(serving) == 0
    assert not file.exists()


def test_a_server_of_the_load_generator_s_own(demo_index: Path, tmp_path: Path) -> None:
    """It is ready by its port and driven by its file, of which nothing is left."""
    with started({"SEARCHBAR_INDEX": str(demo_index)}, tmp_path / "serve.log", by_socket=True) as target:
        assert target.socket is not None and target.socket.is_socket() and "Unix" in target.way
        asked = [Request("/v1/embed", b'{"query": "halo %d"}' % number) for number in range(20)]
        samples = uvloop.run(
            drive("http://127.0.0.1:1", asked, rate_per_s=100, duration_s=1, timeout_s=30, socket=target.socket)
        )
    assert [sample.status for sample in samples] == [200] * 20 and not target.socket.exists()
