"""`searchbar parity` on the real server: passes where nothing differs, fails where a graph is damaged."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from app.settings import Settings
from app.stack import canary
from app.triton_server import EmbeddedTriton
from tests.conftest import SEARCHBAR

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(280)]
REPOSITORY = Settings().model_repository


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running() -> AsyncIterator[str]:
    """The gRPC address of an embedded server on the repository's own models."""
    extra = ["--disable-auto-complete-config"]
    server = EmbeddedTriton(REPOSITORY, canary=canary, backends=REPOSITORY.parent / "backends", extra_args=extra)
    await server.start()
    yield server.grpc_url
    await server.stop()


def parity(reference: str, candidate: str | Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [SEARCHBAR, "parity", "--reference", reference, "--candidate", str(candidate)]
    command += ["--queries", "60", "--items", "300", "--out", str(out)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


async def test_a_server_answers_as_itself(running: str, tmp_path: Path) -> None:
    """The same server on both sides passes with nothing different, and the report says so."""
    done = parity(running, running, tmp_path / "new" / "report.json")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "new" / "report.json").read_text(encoding="utf-8"))
    assert report["passed"] and report["different"] == [] and report["queries"] == 60
    assert (report["texts"], report["overlap"], report["not_finite"]) == (1.0, 1.0, 0)
    assert report["logprob_max"] < 1e-3 and report["cosine_min"] > 0.99999


async def test_the_ensembles_answer_as_the_one_process(running: str, tmp_path: Path) -> None:
    """Served model by model, as on a GPU, the repository says the same."""
    done = parity("local", running, tmp_path / "report.json")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["passed"] and report["texts"] == 1.0 and report["logprob_max"] < 1e-3


def weights(model: bytes) -> list[range]:
    """Where the raw data of each initialiser of an ONNX file stands; `onnx` itself is of the training environment."""
    graphs = [part for number, part in fields(model, range(len(model))) if number == 7]
    initialisers = [part for graph in graphs for number, part in fields(model, graph) if number == 5]
    return [part for tensor in initialisers for number, part in fields(model, tensor) if number == 9]


def fields(message: bytes, inside: range) -> Iterator[tuple[int, range]]:
    """Number and place of every length-delimited field of a protobuf message."""

    def varint(at: int) -> tuple[int, int]:
        value = shift = 0
        while message[at] & 0x80:
            value, shift, at = value | (message[at] & 0x7F) << shift, shift + 7, at + 1
        return value | message[at] << shift, at + 1

    at = inside.start
    while at < inside.stop:
        tag, at = varint(at)
        if tag & 7 == 2:
            length, at = varint(at)
            yield tag >> 3, range(at, at + length)
            at += length
        elif tag & 7 == 0:
            _, at = varint(at)
        else:
            at += {1: 8, 5: 4}[tag & 7]


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        pytest.param("speller_decoder", "log-probabilities off by", id="speller"),
        pytest.param("embedder_encoder", "cosine", id="embedder"),
    ],
)
async def test_a_damaged_graph_fails(running: str, tmp_path: Path, engine: str, said: str) -> None:
    """The largest weight of one graph written backwards, everything else the same: exit status 1, the tolerance named."""
    repository = tmp_path / "triton" / "models"
    shutil.copytree(REPOSITORY, repository, ignore=shutil.ignore_patterns("__pycache__"))
    graph = repository / engine / "1" / "model.onnx"
    content = bytearray(graph.read_bytes())
    weight = max(weights(content), key=len)
    content[weight.start : weight.stop] = content[weight.start : weight.stop][::-1]
    graph.write_bytes(content)
    done = parity(running, repository, tmp_path / "report.json")
    assert done.returncode == 1, done.stdout
    assert said in " ".join(done.stderr.split())
    assert not json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["passed"]


async def test_what_is_no_server_is_refused(tmp_path: Path) -> None:
    """A name that is neither a folder nor an address is refused before anything starts; nobody at an address is an error."""
    wrong = parity("local-server", "local", tmp_path / "report.json")
    assert wrong.returncode == 1 and "HOST:PORT" in wrong.stderr
    away = parity("127.0.0.1:1", "local", tmp_path / "report.json")
    assert away.returncode == 1 and "unavailable" in away.stderr
