"""The embedded Triton server, the real one: ready, healed after every kind of death, and gone without a trace."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from pathlib import Path

import httpx
import numpy as np
import pytest
import pytest_asyncio
import tritonclient.grpc.aio as triton_grpc
from tritonclient.utils import InferenceServerException

from app.errors import ModelFailed, Overloaded, SetupError
from app.triton_health import TritonHealth
from app.triton_http import TritonHttp
from app.triton_launcher import children, owner_prefix, sweep_orphans
from app.triton_server import EmbeddedTriton, Ports, Watch

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

CONFIG = """
backend: "python"
input [{ name: "IN" data_type: TYPE_FP32 dims: [ -1 ] }]
output [{ name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] }]
instance_group [{ kind: KIND_CPU count: 1 }]
"""
MODEL = """
import triton_python_backend_utils as pb

class TritonPythonModel:
    def execute(self, requests):
        tensors = [pb.get_input_tensor_by_name(request, "IN").as_numpy() for request in requests]
        return [pb.InferenceResponse([pb.Tensor("OUT", tensor)]) for tensor in tensors]
"""


def write_model(repository: Path, name: str = "identity", *, model: str = MODEL, config: str = CONFIG) -> Path:
    """Adds a python-backend model to a repository and returns the repository."""
    (repository / name / "1").mkdir(parents=True)
    (repository / name / "1" / "model.py").write_text(model)
    (repository / name / "config.pbtxt").write_text(config)
    return repository


async def infer(client: triton_grpc.InferenceServerClient) -> list[float]:
    """One inference on the identity model."""
    tensor = triton_grpc.InferInput("IN", [2], "FP32")
    tensor.set_data_from_numpy(np.array([1, 2], np.float32))
    answer = await client.infer("identity", [tensor], client_timeout=5.0)
    return list(answer.as_numpy("OUT"))


async def canary(url: str) -> None:
    """What a gateway's canary does: a real inference and a look at the answer."""
    client = TritonHttp(url)
    try:
        answer = await client.infer("identity", {"IN": np.array([1, 2], np.float32)}, ["OUT"], timeout_s=5.0)
        assert answer["OUT"].tolist() == [1.0, 2.0]
    finally:
        await client.close()


async def eventually(holds: Callable[[], bool], within_s: float) -> float:
    """Waits until `holds()`; returns how long that took, in seconds."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < within_s, f"not within {within_s} s"
        await asyncio.sleep(0.05)
    return time.monotonic() - began


def members(groups: Collection[int]) -> list[str]:
    """The living processes of some process groups. Those that PID 1 has not reaped are dead."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group, *_ = stat.read_text().rpartition(")")[2].split()
            if int(group) in groups and state != "Z":
                found.append(f"{stat.parent.name} {(stat.parent / 'comm').read_text().strip()}")
        except OSError:
            continue
    return found


def groups_of(server: int) -> tuple[int, int]:
    """The process groups of a launcher, and of its server and stubs."""
    return parent_of(server), server


def shared_memory(owner: int) -> list[Path]:
    """Shared-memory files that a process's servers hold."""
    return list(Path("/dev/shm").glob(f"{owner_prefix(owner)}*"))


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def triton(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedTriton]:
    """A healthy server; its repository lies in a folder with a blank and a quote in its name, as people's do."""
    repository = write_model(tmp_path_factory.mktemp("models") / "it's mine")
    server = EmbeddedTriton(repository, canary=canary, watch=Watch(canary_every_s=0.5))
    await server.start()
    yield server
    await server.stop()


async def test_started_server_answers_on_all_three_ports(triton: EmbeddedTriton) -> None:
    """After `start` an inference over HTTP, one over gRPC and the metrics work at once."""
    assert triton.healthy and triton.restarts == 0
    await canary(triton.http_url)
    async with triton_grpc.InferenceServerClient(triton.grpc_url) as client:
        assert await infer(client) == [1.0, 2.0]
    body: dict[str, object] = {"inputs": [{"name": "IN", "shape": [2], "datatype": "FP32", "data": [3, 4]}]}
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(f"{triton.http_url}/v2/models/identity/infer", json=body)
        assert answer.json()["outputs"][0]["data"] == [3, 4]
        assert "nv_inference_request_summary_us" in (await client.get(triton.metrics_url)).text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param("POST", "/v2/repository/index", id="repository"),
        pytest.param("POST", "/v2/repository/models/identity/load", id="load"),
        pytest.param("POST", "/v2/repository/models/identity/unload", id="unload"),
        pytest.param("POST", "/v2/systemsharedmemory/region/x/register", id="shared memory"),
        pytest.param("GET", "/v2/systemsharedmemory/status", id="shared memory's regions"),
        pytest.param("GET", "/v2/trace/setting", id="traces"),
        pytest.param("POST", "/v2/models/identity/trace/setting", id="a model's traces"),
        pytest.param("POST", "/v2/logging", id="logs"),
    ],
)
async def test_control_by_http_is_closed(triton: EmbeddedTriton, method: str, path: str) -> None:
    """Nobody on this machine can load models, register memory or have files written; what the gateway asks is answered."""
    async with httpx.AsyncClient(base_url=triton.http_url, trust_env=False) as client:
        answer = await client.request(method, path, json={} if method == "POST" else None, headers={"searchbar": "guess"})
        assert (answer.status_code, "restricted" in answer.text) == (403, True)
        for allowed in ("/v2/models/identity/config", "/v2/models/identity/stats", "/v2/models/identity/ready"):
            assert (await client.get(allowed)).status_code == 200


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda client: client.get_model_repository_index(), id="repository"),
        pytest.param(lambda client: client.load_model("identity"), id="load"),
        pytest.param(lambda client: client.unload_model("identity"), id="unload"),
        pytest.param(lambda client: client.register_system_shared_memory("x", "/x", 64), id="shared memory"),
        pytest.param(lambda client: client.get_cuda_shared_memory_status(), id="shared memory of a GPU"),
        pytest.param(lambda client: client.update_trace_settings(settings={"trace_file": "/tmp/x"}), id="traces"),
        pytest.param(lambda client: client.update_log_settings({"log_verbose_level": 1}), id="logs"),
    ],
)
async def test_control_by_grpc_is_closed(
    triton: EmbeddedTriton, ask: Callable[[triton_grpc.InferenceServerClient], Awaitable[object]]
) -> None:
    """The same by the other protocol."""
    async with triton_grpc.InferenceServerClient(triton.grpc_url) as client:
        with pytest.raises(InferenceServerException, match="restricted"):
            await ask(client)
        assert await infer(client) == [1.0, 2.0]


async def test_it_listens_on_loopback_alone(triton: EmbeddedTriton) -> None:
    """Of the sockets that the server's processes listen on none can be reached from another machine, and there are three."""
    assert triton.pid is not None
    held = {inode for pid in (triton.pid, *children(triton.pid)) for inode in sockets(pid)}
    addresses = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            local, _, state, *rest = line.split()[1:]
            if state == "0A" and rest[5] in held:
                addresses.append(local.split(":")[0])
    loopback = "0100007F"  # 127.0.0.1, and as an IPv6 address that stands for it
    assert sorted(addresses) == sorted(["0000000000000000FFFF0000" + loopback, loopback, loopback])


def sockets(pid: int) -> set[str]:
    """Inodes of a process's sockets."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(link)
        except OSError:
            continue
        if target.startswith("socket:["):
            found.add(target[8:-1])
    return found


@pytest.mark.parametrize(
    ("strike", "within_s"),
    [
        pytest.param(lambda server: os.kill(server, signal.SIGKILL), 10, id="server killed"),
        pytest.param(lambda server: os.kill(next(iter(children(server))), signal.SIGKILL), 10, id="python stub killed"),
        pytest.param(lambda server: os.kill(parent_of(server), signal.SIGKILL), 10, id="launcher killed"),
        pytest.param(lambda server: os.kill(server, signal.SIGSTOP), 20, id="server frozen"),
    ],
)
async def test_struck_server_heals_on_the_same_ports(
    triton: EmbeddedTriton, strike: Callable[[int], None], within_s: float
) -> None:
    """Whatever dies, soon the gRPC channel opened before works again, who listens is told once, nothing of the old is left."""
    before, address, struck = triton.restarts, triton.grpc_url, triton.pid
    assert struck is not None and triton.healthy
    groups = groups_of(struck)
    told: list[bool] = []
    triton.on_restart = lambda: told.append(triton.healthy)
    async with triton_grpc.InferenceServerClient(address) as client:
        assert await infer(client) == [1.0, 2.0]
        strike(struck)
        await eventually(lambda: triton.restarts == before + 1 and triton.healthy, within_s)
        assert told == [True]
        assert triton.grpc_url == address and triton.pid != struck
        assert await infer(client) == [1.0, 2.0]
    await eventually(lambda: not members(groups), 5.0)
    assert len(shared_memory(os.getpid())) == 1


def parent_of(pid: int) -> int:
    """Process id of a process's parent: of a server, its launcher."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def test_overloaded_canary_is_a_sign_of_life(triton: EmbeddedTriton) -> None:
    """A server that turns the canary away is not restarted for it; one that answers it wrongly is."""

    async def overloaded(url: str) -> None:
        raise Overloaded("queue full")

    async def failing(url: str) -> None:
        raise ModelFailed("wrong answer")

    for check in (overloaded, failing):
        health = TritonHealth(triton.http_url, ["identity"], check)
        try:
            if check is overloaded:
                await health.probe(5.0)
            else:
                with pytest.raises(ModelFailed):
                    await health.probe(5.0)
        finally:
            await health.close()


async def test_stop_leaves_nothing(tmp_path: Path) -> None:
    """After `stop`, and a second one, there is no process, no shared memory, no scratch directory and no listener."""
    others = set(shared_memory(os.getpid()))
    work = tmp_path / "work"
    server = EmbeddedTriton(write_model(tmp_path / "models"), canary=None, work_dir=work, models=["identity"])
    await server.start()
    assert server.pid is not None
    groups = groups_of(server.pid)
    assert len(members(groups)) == 3 and set(shared_memory(os.getpid())) - others and list(work.iterdir())
    await server.stop()
    await server.stop()
    assert members(groups) == []
    assert set(shared_memory(os.getpid())) == others
    assert list(work.iterdir()) == []
    assert server.pid is None and not server.healthy
    async with httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(server.http_url)


GATEWAY = """
import asyncio, sys
from pathlib import Path
from app.triton_server import EmbeddedTriton

async def main():
    server = EmbeddedTriton(Path(sys.argv[1]), canary=None, work_dir=Path(sys.argv[2]))
    await server.start()
    print(server.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.parametrize("launcher_too", [pytest.param(False, id="gateway"), pytest.param(True, id="gateway and launcher")])
async def test_killed_gateway_leaves_nothing(tmp_path: Path, launcher_too: bool) -> None:
    """SIGKILL of the gateway takes server, stubs and every file along; with the launcher dead too, the next start does."""
    write_model(tmp_path / "models")
    work = tmp_path / "work"
    command = [sys.executable, "-c", GATEWAY, str(tmp_path / "models"), str(work)]
    gateway = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=tmp_path)
    assert gateway.stdout is not None
    server = int(await gateway.stdout.readline())
    groups = groups_of(server)
    assert len(members(groups)) == 3 and shared_memory(gateway.pid)
    if launcher_too:
        os.kill(parent_of(server), signal.SIGSTOP)  # so that it cannot clean up in between
    gateway.kill()
    if launcher_too:
        os.kill(groups[0], signal.SIGKILL)
    await gateway.wait()
    await eventually(lambda: not members(groups), 10.0)
    if launcher_too:
        sweep_orphans(work)
    assert shared_memory(gateway.pid) == []
    assert list(work.iterdir()) == []


async def test_models_that_cannot_be_loaded_are_quoted(tmp_path: Path) -> None:
    """The error carries Triton's own words on each broken model, and nothing is left running."""
    repository = write_model(tmp_path / "models", "speller", model="def broken(:")
    write_model(repository, "embedder", config=CONFIG.replace("FP32", "FP99"))
    server = EmbeddedTriton(repository, canary=None, work_dir=tmp_path / "work")
    with pytest.raises(SetupError, match="SyntaxError") as caught:
        await server.start()
    assert (
        "failed to load 'speller'" in str(caught.value)
        and "'embedder'" in str(caught.value)
        and "TYPE_FP99" in str(caught.value)
    )
    assert server.pid is None and list((tmp_path / "work").iterdir()) == []


async def test_failing_first_canary_is_an_error(tmp_path: Path) -> None:
    """Models that say they are ready but fail on a real request do not pass for started."""

    async def failing(url: str) -> None:
        raise ModelFailed("no such tensor")

    server = EmbeddedTriton(write_model(tmp_path / "models"), canary=failing, work_dir=tmp_path / "work")
    with pytest.raises(SetupError, match="no such tensor"):
        await server.start()
    assert server.pid is None and list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize(
    ("folder", "models", "message"),
    [
        pytest.param("absent", [], "no model repository at .*absent", id="no repository"),
        pytest.param("empty", [], "is empty", id="empty repository"),
        pytest.param("models", ["speller"], "has no model speller, but identity", id="no such model"),
    ],
)
async def test_wrong_repository_is_named(tmp_path: Path, folder: str, models: list[str], message: str) -> None:
    """A repository that cannot serve what is asked is refused before anything starts."""
    write_model(tmp_path / "models")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SetupError, match=message):
        await EmbeddedTriton(tmp_path / folder, canary=None, models=models).start()


async def test_work_dir_that_triton_cannot_use_is_refused(tmp_path: Path) -> None:
    """A blank in the scratch directory's path would end in the stub's shell command, minutes later."""
    with pytest.raises(SetupError, match="TMPDIR"):
        await EmbeddedTriton(write_model(tmp_path / "models"), canary=None, work_dir=tmp_path / "my work").start()


async def test_port_in_use_is_named(tmp_path: Path) -> None:
    """A port that somebody listens on is refused with its number."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        free, port = Ports.free(), taken.getsockname()[1]
        server = EmbeddedTriton(write_model(tmp_path / "models"), canary=None, ports=Ports(free.http, port, free.metrics))
        with pytest.raises(SetupError, match=rf"port {port} \(Triton gRPC\)"):
            await server.start()
