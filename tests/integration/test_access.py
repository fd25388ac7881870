"""Keys, HTTPS and the lock on Triton, on the whole stack as a newcomer starts it."""

from __future__ import annotations

import re
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import trustme

from tests.conftest import SEARCHBAR, Serving, start, stop


def new_key(file: Path, *words: str) -> str:
    done = subprocess.run([SEARCHBAR, "keys", "new", *words, "--file", str(file)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("access")
    ca = trustme.CA()
    issued = ca.issue_cert("127.0.0.1")
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    issued.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    return folder


@pytest.fixture(scope="module")
def keys(folder: Path) -> dict[str, str]:
    file = folder / "keys.json"
    return {"web": new_key(file, "web"), "slow": new_key(file, "slow", "--rate", "0.001", "--burst", "2")}


@pytest.fixture(scope="module")
def guarded(demo_index: Path, folder: Path, keys: dict[str, str]) -> Iterator[Serving]:
    settings = {
        "SEARCHBAR_API_KEYS": str(folder / "keys.json"),
        "SEARCHBAR_TLS_CERT": str(folder / "cert.pem"),
        "SEARCHBAR_TLS_KEY": str(folder / "key.pem"),
    }
    running = start(demo_index, folder / "serve.log", settings, ca=folder / "ca.pem")
    yield running
    stop(running)


@pytest.fixture(scope="module")
def client(guarded: Serving, folder: Path) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=guarded.url, timeout=20, verify=ssl.create_default_context(cafile=folder / "ca.pem")) as opened:
        yield opened


def ask(client: httpx.Client, key: str | None) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return client.post("/v1/search", json={"query": "bilie jean"}, headers=headers)


def test_https_and_a_key(client: httpx.Client, guarded: Serving, keys: dict[str, str]) -> None:
    """A key that the command printed opens the real stack, over TLS that clients are told to keep to; none does not."""
    assert [ask(client, key).status_code for key in (None, "sb_wrong", keys["web"])] == [401, 403, 200]
    assert ask(client, keys["web"]).headers["strict-transport-security"] == "max-age=31536000"
    assert guarded.url.startswith("https://") and guarded.url in guarded.log.read_text()
    with pytest.raises(httpx.TransportError):
        httpx.get(guarded.url.replace("https", "http") + "/livez")


def test_a_rate_is_kept(client: httpx.Client, keys: dict[str, str]) -> None:
    """The burst passes, then 429 says when to come back."""
    answers = [ask(client, keys["slow"]) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert int(answers[2].headers["retry-after"]) > 100


def test_a_revoked_key_is_refused_without_a_restart(client: httpx.Client, folder: Path) -> None:
    """A key made while the server runs opens it, and no longer does soon after it was revoked."""
    file = folder / "keys.json"
    key = new_key(file, "guest")
    until(lambda: ask(client, key).status_code == 200)
    subprocess.run([SEARCHBAR, "keys", "revoke", "guest", "--file", str(file)], check=True, capture_output=True, timeout=60)
    until(lambda: ask(client, key).status_code == 403)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_stacks_triton_is_locked(guarded: Serving) -> None:
    """The Triton that `searchbar serve` starts is asked for its models in vain."""
    (url,) = re.findall(r"HTTP (http://127\.0\.0\.1:\d+)", guarded.log.read_text())
    assert httpx.get(f"{url}/v2/health/ready").status_code == 200
    assert httpx.post(f"{url}/v2/repository/index", json={}).status_code == 403
