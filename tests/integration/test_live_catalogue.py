"""The catalogue of a running stack changed through its API: found and corrected to at once, and there after `kill -9`."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import DEMO, SEARCHBAR, Serving, start, stop

KEY = "integration"
HEADERS = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/x-ndjson"}
LATEST_S = 1.0  # from the answer to the upsert until a typo finds the item


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo catalogue's first songs in an index of their own."""
    folder = tmp_path_factory.mktemp("live")
    source = folder / "songs.csv"
    source.write_text("".join(DEMO.read_text(encoding="utf-8").splitlines(keepends=True)[:400]), encoding="utf-8")
    done = index(source, folder / "index")
    assert done.returncode == 0, done.stderr
    return folder / "index"


@pytest.fixture(scope="module")
def live(catalogue: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SEARCHBAR_ADMIN_KEY", KEY)
        running = start(catalogue, tmp_path_factory.mktemp("log") / "serve.log")
    yield running
    stop(running)


def index(source: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [SEARCHBAR, "index", str(source), "--out", str(out)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


def put(live: Serving, *rows: dict[str, object]) -> dict[str, object]:
    body = "".join(json.dumps(row) + "\n" for row in rows)
    answer = httpx.put(f"{live.url}/v1/catalogue/items", content=body.encode(), headers=HEADERS, timeout=60)
    assert answer.status_code == 200, answer.text
    found: dict[str, object] = answer.json()
    return found


def search(live: Serving, query: str) -> dict[str, object]:
    found: dict[str, object] = httpx.post(f"{live.url}/v1/search", json={"query": query}, timeout=10).json()
    return found


def test_an_added_item_is_found_and_suggested_through_a_typo_within_a_second(live: Serving) -> None:
    """A name that no training has seen: its typo, asked before it was there, finds it, is corrected to it and completed."""
    search(live, "zorblax quintesence")
    put(live, {"id": "zorblax", "title": "Zorblax Quintessence", "artist": "Vexillum Nine"})
    acknowledged = time.monotonic()
    found = search(live, "zorblax quintesence")
    suggested = httpx.get(f"{live.url}/v1/suggest?q=zorbalx", timeout=10).json()
    assert time.monotonic() - acknowledged < LATEST_S
    assert found["hits"][0]["id"] == "zorblax", found  # type: ignore[index]
    assert (found["corrected"], found["action"] in ("replace", "suggest")) == ("zorblax quintessence", True), found
    assert [one["text"] for one in suggested["completions"]] == ["Zorblax Quintessence"]


def test_searches_go_on_during_a_bulk(live: Serving) -> None:
    """Two thousand rows are written in eight batches; what is searched meanwhile is answered, none of it degraded."""
    rows = [{"id": f"bulk-{at}", "title": f"Bulk number {at}", "artist": f"Singer {at % 300}"} for at in range(2000)]
    body = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    command = ["curl", "-sS", "-X", "PUT", "--data-binary", "@-", f"{live.url}/v1/catalogue/items"]
    command += [part for name, value in HEADERS.items() for part in ("-H", f"{name}: {value}")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writing:
        assert writing.stdin is not None
        assert writing.stdout is not None
        writing.stdin.write(body)
        writing.stdin.close()
        answers = []
        while writing.poll() is None:
            answers.append(search(live, "bohemian rapsody"))
        answer = json.loads(writing.stdout.read())
    assert (answer["upserted"], answer["rejected"]) == (2000, [])
    assert len(answers) > 1
    assert [found["degraded"] for found in answers if found["degraded"]] == []


def test_a_live_index_is_not_replaced_nor_served_twice(live: Serving, catalogue: Path) -> None:
    """`searchbar index` and a second server must fail, naming the process that has it; the first goes on."""
    done = index(DEMO, catalogue)
    assert (done.returncode, str(live.process.pid) in done.stderr) == (1, True), done.stderr
    command = [SEARCHBAR, "serve", "--port", "0", "--index", str(catalogue)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (second.returncode, "stop that server first" in " ".join(second.stderr.split())) == (1, True), second.stderr
    assert search(live, "zorblax quintessence")["hits"]


def test_what_was_acknowledged_is_there_after_kill_9(
    catalogue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, live: Serving
) -> None:
    """A killed server's last upsert and removal hold for the next server, which does not even need the key."""
    put(live, {"id": "last", "title": "Halcyon Marmoset Parade"})
    removed = httpx.delete(f"{live.url}/v1/catalogue/items/zorblax", headers=HEADERS, timeout=10)
    assert removed.status_code == 204
    below = live.descendants()
    live.process.send_signal(signal.SIGKILL)
    live.process.wait(30)
    assert below
    again = start(catalogue, tmp_path / "again.log")
    try:
        assert search(again, "halcion marmoset parade")["hits"][0]["id"] == "last"  # type: ignore[index]
        assert "zorblax" not in [hit["id"] for hit in search(again, "zorblax quintessence")["hits"]]  # type: ignore[attr-defined]
        off = httpx.get(f"{again.url}/v1/catalogue/items/last", headers=HEADERS, timeout=10)
        assert (off.status_code, "SEARCHBAR_ADMIN_KEY" in off.json()["detail"]) == (403, True)
    finally:
        stop(again)
