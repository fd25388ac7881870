"""An instance that Triton puts on a GPU runs there or does not run; where `searchbar serve` says which it is."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from app.engine_repository import ENGINES, install
from app.errors import SetupError
from app.settings import Settings
from app.stack import embedded

REPOSITORY = Settings().model_repository
ENGINE = REPOSITORY / "embedder_encoder" / "1" / "engine.py"
BACKEND = REPOSITORY.parent / "backends" / "onnxruntime" / "model.py"
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
CONFIG = '{"max_batch_size": 0, "input": [], "output": [], "default_model_filename": "fp32.onnx"}'


class Runtime(ModuleType):
    """`onnxruntime` as far as a session is opened with it: a provider that is not there is left out, as by the real one."""

    __version__ = "1.0"

    def __init__(self, *there: str) -> None:
        super().__init__("onnxruntime")
        self.there = there
        self.opened: list[tuple[str, list[Any]]] = []
        self.preloaded = 0

    def preload_dlls(self) -> None:
        self.preloaded += 1

    @staticmethod
    def SessionOptions() -> SimpleNamespace:  # noqa: N802  # the name is the real one's
        return SimpleNamespace(add_session_config_entry=lambda key, value: None)

    def InferenceSession(self, path: str, options: Any, providers: list[Any]) -> SimpleNamespace:  # noqa: N802  # likewise
        self.opened.append((path, providers))
        asked = [provider if isinstance(provider, str) else provider[0] for provider in providers]
        found = [provider for provider in (*asked, CPU) if provider in self.there]
        return SimpleNamespace(get_providers=lambda: list(dict.fromkeys(found)))


def load(path: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", ModuleType("triton_python_backend_utils"))
    spec = importlib.util.spec_from_file_location("loaded", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def arguments(kind: str, device: str = "0") -> dict[str, str]:
    """What Triton gives an instance's `initialize`."""
    where = {"model_instance_kind": kind, "model_instance_device_id": device}
    return {**where, "model_config": CONFIG, "model_repository": "models", "model_version": "1"}


def open_by(path: Path, runtime: Runtime, kind: str, monkeypatch: pytest.MonkeyPatch, device: str = "0") -> None:
    module = load(path, runtime, monkeypatch)
    if path == ENGINE:
        module.session(Path("models/1"), arguments(kind, device))
    else:
        module.TritonPythonModel().initialize(arguments(kind, device))


@pytest.mark.parametrize("path", [ENGINE, BACKEND], ids=["one process", "backend"])
def test_a_gpu_instance_opens_its_graph_on_its_own_gpu(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fp32 graph by the CUDA provider, on the GPU that Triton names, and in fp32."""
    runtime = Runtime(CUDA, CPU)
    open_by(path, runtime, "GPU", monkeypatch, device="3")
    assert runtime.opened == [("models/1/fp32.onnx", [(CUDA, {"device_id": "3", "use_tf32": "0"})])]
    assert runtime.preloaded == 1


@pytest.mark.parametrize("path", [ENGINE, BACKEND], ids=["one process", "backend"])
def test_a_gpu_instance_never_falls_back_to_the_cpu(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the CUDA provider ONNX Runtime would run the graph on the CPU and only warn; the model fails instead."""
    with pytest.raises(RuntimeError, match=r"no CUDA here.*docs/deploy\.md"):
        open_by(path, Runtime(CPU), "GPU", monkeypatch)


@pytest.mark.parametrize("path", [ENGINE, BACKEND], ids=["one process", "backend"])
def test_a_cpu_instance_asks_for_no_gpu(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where there is one."""
    runtime = Runtime(CUDA, CPU)
    open_by(path, runtime, "CPU", monkeypatch)
    assert [providers for _, providers in runtime.opened] == [[CPU]] and runtime.preloaded == 0


def test_one_process_on_a_cpu_runs_the_graph_that_ships(monkeypatch: pytest.MonkeyPatch) -> None:
    """int8, beside which a graph for a GPU may lie."""
    runtime = Runtime(CUDA, CPU)
    open_by(ENGINE, runtime, "CPU", monkeypatch)
    assert runtime.opened[0][0] == "models/1/model.onnx"


def test_a_gpu_is_served_only_with_its_graphs(tmp_path: Path) -> None:
    """The message names both commands; once they have run, the server is told the configuration for a GPU."""
    repository, graphs = tmp_path / "models", tmp_path / "onnx"
    for engine in ENGINES:
        (repository / engine / "1").mkdir(parents=True)
    with pytest.raises(SetupError, match=r"engines export.*engines install"):
        embedded(repository, canary=None, device="cuda")
    with pytest.raises(SetupError, match="engines export"):
        install(graphs, repository)
    graphs.mkdir()
    for engine in ENGINES:
        (graphs / f"{engine}.onnx").write_text(engine)
    install(graphs, repository)
    assert (repository / "speller_decoder" / "1" / "fp32.onnx").read_text() == "speller_decoder"
    assert config_name(embedded(repository, canary=None, device="cuda")) == "one_process_cuda"
    assert config_name(embedded(repository, canary=None)) == "one_process"


def config_name(triton: Any) -> str:
    return next(a.split("=")[1] for a in triton._arguments(Path("scratch")) if a.startswith("--model-config-name"))


@pytest.mark.parametrize(("said", "meant"), [({}, "cpu"), ({"SEARCHBAR_TRITON_DEVICE": "cuda"}, "cuda")])
def test_the_environment_chooses_the_device(said: dict[str, str], meant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU unless it says otherwise."""
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert Settings().triton_device == meant
