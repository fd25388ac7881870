"""The gateway served by `sagemaker://`: the packed repository in real Triton servers, through their SageMaker front ends.

Two servers stand for the endpoint's two variants, started with the environment and the arguments that `deploy` gives the
containers. The tests of `test_stack.py` are the same that the gateway passes by gRPC.
"""

from __future__ import annotations

import os
import subprocess
import tarfile
import time
import venv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import numpy as np
import pytest

from app.errors import DeadlineExceeded, ModelFailed, ModelUnavailable
from app.inference import text_tensor
from app.sagemaker.container import environment
from app.sagemaker.deployment import VARIANTS
from app.settings import ROOT
from app.triton_install import find_install
from app.triton_sagemaker import SageMakerBackend
from app.triton_server import Ports
from tests.conftest import SEARCHBAR, START_S, Serving, descendants, start, stop
from tests.integration.sagemaker_runtime import Runtime
from tests.integration.test_stack import *  # noqa: F403  (the tests, which run here with this module's fixtures)

pytestmark = pytest.mark.timeout(240)

ENDPOINT = "sagemaker://music?region=eu-west-1"
ACCOUNT = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive unpacked, as SageMaker does before it starts the container."""
    folder = tmp_path_factory.mktemp("sagemaker")
    archive = folder / "model.tar.gz"
    command = [SEARCHBAR, "sagemaker", "package", "--config", "cpu", "--out", str(archive)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and f"{archive.stat().st_size / 1e6:.1f} MB" in done.stdout, done.stderr
    with tarfile.open(archive) as tar:
        tar.extractall(folder / "model", filter="data")
    return folder / "model"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a Python as the container's: with what Triton's backends need and without `tokenizers`."""
    root = tmp_path_factory.mktemp("python")
    venv.create(root, symlinks=True)
    packages = next(root.glob("lib/*/site-packages"))
    installed = Path(np.__file__).parents[1]
    for name in ("numpy", "numpy.libs", "onnxruntime"):
        (packages / name).symlink_to(installed / name)
    return root / "bin"


@dataclass(frozen=True)
class Container:
    """A running variant: the server's process and its port."""

    server: subprocess.Popen[bytes]
    port: int
    log: Path

    def wait_until_healthy(self) -> None:
        """As SageMaker does: `/ping` until it answers 200."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.server.poll() is None:
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}/ping", timeout=2).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.2)
        pytest.fail(f"the server did not turn healthy:\n{self.log.read_text()}")


def run_container(variant: str, repository: Path, python: Path, scratch: Path) -> Container:
    """What the container's `serve` runs with the environment that `deploy` gives it (docker/sagemaker/serve of Triton)."""
    install = replace(find_install(), interpreter_dir=python)
    install.link_backends(scratch / "backends", ROOT / "triton" / "backends")
    port = Ports.free().http
    given = environment(variant, "cpu")
    command = [str(install.binary), "--allow-sagemaker=true", "--allow-http=false", "--model-control-mode=explicit"]
    command += [f"--model-repository={repository}", "--model-namespacing=true", f"--sagemaker-port={port}"]
    command += ["--allow-grpc=false", "--allow-metrics=false", *given["SAGEMAKER_TRITON_ADDITIONAL_ARGS"].split()]
    command += [f"--load-model={variant}", f"--backend-directory={scratch / 'backends'}"]
    log = scratch / "log"
    with log.open("wb") as sink:
        server = subprocess.Popen(
            command, cwd=scratch, stdout=sink, stderr=sink, env=install.environment({**os.environ, **given})
        )
    return Container(server, port, log)


@pytest.fixture(scope="module")
def containers(repository: Path, python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Container]]:
    """Variant → its container."""
    found: dict[str, Container] = {}
    try:
        for variant in VARIANTS:
            found[variant] = run_container(variant, repository, python, tmp_path_factory.mktemp(variant))
        for container in found.values():
            container.wait_until_healthy()
        yield found
    finally:
        for container in found.values():
            container.server.terminate()
        for container in found.values():
            try:
                assert container.server.wait(30) == 0  # SageMaker kills a container 30 s after it has asked it to stop
            finally:
                container.server.kill()


@pytest.fixture(scope="module")
def runtime(containers: dict[str, Container]) -> Iterator[Runtime]:
    """The endpoint, where boto3 looks for SageMaker."""
    with (
        Runtime("music", {v: container.port for v, container in containers.items()}) as served,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in {**ACCOUNT, "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": served.url}.items():
            patch.setenv(name, value)
        yield served


@pytest.fixture(scope="module")
def serving(runtime: Runtime, demo_index: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """`searchbar serve` by the endpoint."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEARCHBAR_TRITON", ENDPOINT)
        running = start(demo_index, tmp_path_factory.mktemp("log") / "serve.log")
    yield running
    stop(running)


@pytest.fixture(scope="module")
def client(serving: Serving) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=serving.url, timeout=20) as opened:
        yield opened


def test_containers_are_healthy_and_bring_their_tokenizers(repository: Path, containers: dict[str, Container]) -> None:
    """SageMaker's `/ping` is answered, and the models run the `tokenizers` of the archive."""
    for container in containers.values():
        assert httpx.get(f"http://127.0.0.1:{container.port}/ping").status_code == 200
        maps = "".join(Path(f"/proc/{stub}/maps").read_text() for stub in descendants(container.server.pid))
        libraries = {line.split()[-1] for line in maps.splitlines() if line.endswith("tokenizers.abi3.so")}
        assert libraries and all(path.startswith(f"{repository}/") for path in libraries)


def test_the_gateway_holds_no_other_server(client: httpx.Client, serving: Serving, runtime: Runtime) -> None:
    """A search asks both variants of the endpoint and no Triton of the gateway's own."""
    before = len(runtime.calls)
    answer = client.post("/v1/search", json={"query": "never askd befor"}).json()
    assert answer["degraded"] == []
    assert set(runtime.calls[before:]) == set(VARIANTS)
    assert serving.descendants("tritonserver") == []


def test_invoke_asks_both_models(runtime: Runtime) -> None:
    """`searchbar sagemaker invoke` prints the model's reading of a query and the length of its embedding."""
    command = [SEARCHBAR, "sagemaker", "invoke", "smels like teen sprit", "--name", "music", "--region", "eu-west-1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "smells like teen spirit" in done.stdout and "256 numbers" in done.stdout, done.stderr


async def test_numbers_and_texts_arrive_as_sent(runtime: Runtime, containers: dict[str, Container]) -> None:
    """Tensors of several types and rows come back with names, types and shapes."""
    backend = SageMakerBackend(ENDPOINT)
    try:
        queries = text_tensor([["halo"], ["beyoncé"], [""]])
        candidates = text_tensor([["halo", "hello"], ["beyonce"], []])
        outputs = ["TEXT", "PASSES", "CANDIDATE_LOGPROBS"]
        answer = await backend.infer("speller", {"QUERY": queries, "CANDIDATES": candidates}, outputs, 20)
        assert {name: (tensor.dtype, tensor.shape) for name, tensor in answer.items()} == {
            "TEXT": (np.dtype(object), (3, 1)),
            "PASSES": (np.dtype(np.int32), (3, 1)),
            "CANDIDATE_LOGPROBS": (np.dtype(np.float32), (3, 2)),
        }
        assert answer["TEXT"][0, 0] == b"halo" and np.isneginf(answer["CANDIDATE_LOGPROBS"][1, 1])
    finally:
        await backend.close()


async def test_failures_have_the_names_that_they_have_by_grpc(runtime: Runtime) -> None:
    """What Triton refuses, an unknown variant, an unknown endpoint, lateness: each is the service's own error."""
    backend, elsewhere = SageMakerBackend(ENDPOINT), SageMakerBackend("sagemaker://else?region=eu-west-1")
    halo = {"QUERY": text_tensor([["halo"]])}
    try:
        with pytest.raises(ModelFailed, match="shape"):
            await backend.infer("embedder", {"QUERY": text_tensor([["halo", "halo"]])}, ["EMBEDDING"], 20)
        with pytest.raises(ModelUnavailable, match="Variant reranker"):
            await backend.infer("reranker", halo, ["EMBEDDING"], 20)
        with pytest.raises(ModelUnavailable, match="Endpoint"):
            await elsewhere.infer("embedder", halo, ["EMBEDDING"], 20)
        with pytest.raises(DeadlineExceeded):
            await backend.infer("embedder", halo, ["EMBEDDING"], 0.0)
    finally:
        await backend.close()
        await elsewhere.close()
