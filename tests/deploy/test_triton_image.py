"""What the CPU image of Triton runs, run here without the image: serve.py, the real server, the real models."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.settings import ROOT
from app.triton_server import Ports

METRICS = (ROOT / "tests" / "deploy" / "triton_metrics.txt").read_text().splitlines()
START_S = 90.0  # generous: CI machines are slow


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    """The server started as the Dockerfile lays it out: three modules of `app`, the backends and the models."""
    image = tmp_path_factory.mktemp("image")
    (image / "app").mkdir()
    (image / "tmp").mkdir()
    for name in ("__init__.py", "errors.py", "triton_install.py"):
        shutil.copy(ROOT / "app" / name, image / "app" / name)
    shutil.copy(ROOT / "docker" / "triton" / "serve.py", image / "serve.py")
    for name in ("models", "backends"):
        shutil.copytree(ROOT / "triton" / name, image / name)
    ports = Ports.free()
    numbers = {"http": ports.http, "grpc": ports.grpc, "metrics": ports.metrics}
    command = [sys.executable, "serve.py", "--root", str(image), "--address", "127.0.0.1"]
    command += [word for name, port in numbers.items() for word in (f"--{name}-port", str(port))]
    log = image / "triton.log"
    environment = {"PATH": "/usr/bin:/bin", "TMPDIR": str(image / "tmp")}
    with log.open("wb") as sink:
        server = subprocess.Popen(command, cwd=image, stdout=sink, stderr=sink, env=environment)
    try:
        wait_until_ready(server, ports, log)
        yield ports
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            assert server.wait(30) == 0
        finally:
            server.kill()


def wait_until_ready(server: subprocess.Popen[bytes], ports: Ports, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{ports.http}/v2/health/ready", timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    server.kill()
    pytest.fail(f"serve.py did not turn ready:\n{log.read_text()}")


def infer(ports: Ports, model: str, **texts: str) -> dict[str, object]:
    inputs = [{"name": name, "datatype": "BYTES", "shape": [1, 1], "data": [text]} for name, text in texts.items()]
    answer = httpx.post(f"http://127.0.0.1:{ports.http}/v2/models/{model}/infer", json={"inputs": inputs}, timeout=30)
    assert answer.status_code == 200, answer.text
    return {output["name"]: output["data"] for output in answer.json()["outputs"]}


def test_both_models_answer(ports: Ports) -> None:
    """The ensembles that the gateway asks work with nothing of the gateway there."""
    assert len(infer(ports, "embedder", QUERY="halo")["EMBEDDING"]) == 256  # type: ignore[arg-type]
    assert infer(ports, "speller", QUERY="billie jean", CANDIDATES="billie jean")["TEXT"] == ["billie jean"]


def test_the_list_of_its_metrics_is_right(ports: Ports) -> None:
    """Every metric of a CPU that triton_metrics.txt lists is exported; rules and dashboard are held against that list."""
    infer(ports, "embedder", QUERY="halo")
    listed = {name for name in METRICS if name.startswith(("nv_inference", "nv_cpu"))}
    deadline = time.monotonic() + 30  # the utilisation of the CPU is first polled after two seconds
    while missing := listed - exported(ports):
        assert time.monotonic() < deadline, missing
        time.sleep(0.5)


def exported(ports: Ports) -> set[str]:
    lines = httpx.get(f"http://127.0.0.1:{ports.metrics}/metrics", timeout=10).text.splitlines()
    return {line.split()[2] for line in lines if line.startswith("# TYPE")}


def test_the_gateway_serves_by_it(ports: Ports, demo_index: Path, tmp_path: Path) -> None:
    """`searchbar serve --triton` answers a misspelt search through this server, nothing left out."""
    command = [str(Path(sys.executable).parent / "searchbar"), "serve", "--port", str(Ports.free().http)]
    log = tmp_path / "serve.log"
    with log.open("wb") as sink:
        gateway = subprocess.Popen(
            [*command, "--index", str(demo_index), "--triton", f"127.0.0.1:{ports.grpc}"], stdout=sink, stderr=sink
        )
    try:
        deadline = time.monotonic() + START_S
        answer = None
        while answer is None and time.monotonic() < deadline and gateway.poll() is None:
            try:
                body = {"query": "bilie jean micheal jackson"}
                answer = httpx.post(f"http://127.0.0.1:{command[-1]}/v1/search", json=body, timeout=10)
            except httpx.HTTPError:
                time.sleep(0.2)
        assert answer is not None, log.read_text()
        assert (answer.json()["corrected"], answer.json()["degraded"]) == ("billie jean michael jackson", [])
    finally:
        gateway.terminate()
        gateway.wait(30)
