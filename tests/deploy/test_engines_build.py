"""triton/engines/build.sh, run for real against stand-ins for trtexec and nvidia-smi: neither is on a machine without a GPU.

What cannot be seen this way is whether TensorRT builds the graphs; tests/training/test_engines.py judges that by its published
list of operators.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.engine_repository import ENGINES
from app.settings import ROOT

ENGINES_FOLDER = ROOT / "triton" / "engines"
TRTEXEC = """#!/bin/bash
[[ $1 == --help ]] && { echo '&&&& RUNNING TensorRT.trtexec [TensorRT v100500] # trtexec --help'; exit 1; }
echo "$@" >> "$CALLS"
for flag; do
    case $flag in
    --saveEngine=*) plan=${flag#*=} ;;
    --onnx=*) graph=${flag#*=} ;;
    --timingCacheFile=*) touch "${flag#*=}" ;;
    esac
done
[[ -n $BREAK && $graph == *$BREAK* ]] && { echo half > "$plan"; echo 'Error[4]: no importer for Foo'; exit 1; }
{ echo plan of; cat "$graph"; } > "$plan"
"""


@dataclass(frozen=True)
class Machine:
    """A folder with a model repository, exported graphs and the stand-ins."""

    folder: Path

    def build(self, **environment: str) -> subprocess.CompletedProcess[str]:
        given = {
            "PATH": f"{self.folder / 'bin'}:/usr/bin:/bin",
            "MODELS": str(self.folder / "models"),
            "ONNX": str(self.folder / "onnx"),
            "CALLS": str(self.folder / "calls"),
            **environment,
        }
        return subprocess.run([ENGINES_FOLDER / "build.sh"], env=given, capture_output=True, text=True, timeout=60)

    def calls(self) -> list[list[str]]:
        """The arguments of every build since the last look."""
        log = self.folder / "calls"
        found = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
        log.unlink(missing_ok=True)
        return found

    def plan(self, engine: str) -> Path:
        return self.folder / "models" / engine / "1" / "model.plan"

    def gpu(self, name: str) -> None:
        self.program("nvidia-smi", f"#!/bin/sh\necho '{name}'\n")

    def program(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(text)
        path.chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """One that has all that is needed and no plan yet."""
    for folder in ("bin", "onnx"):
        (tmp_path / folder).mkdir()
    made = Machine(tmp_path)
    made.program("trtexec", TRTEXEC)
    made.gpu("NVIDIA A10G, 8.6")
    for engine in ENGINES:
        (tmp_path / "models" / engine / "1").mkdir(parents=True)
        (tmp_path / "onnx" / f"{engine}.onnx").write_text(f"graph of {engine}\n")
    return made


def test_it_is_clean_by_shellcheck() -> None:
    """ShellCheck has no complaint at any level."""
    checker = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if checker is None:
        pytest.skip("ShellCheck is not installed (the dev extra brings it, where it has a wheel)")
    done = subprocess.run([checker, "--severity=style", ENGINES_FOLDER / "build.sh"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_engine_is_built_once(machine: Machine) -> None:
    """Each plan is built with fp16, its profile and the timing cache, with fp32.onnx beside it; a second run builds nothing."""
    assert machine.build().returncode == 0
    calls = machine.calls()
    assert len(calls) == len(ENGINES)
    for engine, call in zip(ENGINES, calls, strict=True):
        assert f"--onnx={machine.folder}/onnx/{engine}.onnx" in call
        assert {"--fp16", "--skipInference", f"--timingCacheFile={machine.folder}/models/.timing.cache"} <= set(call)
        assert machine.plan(engine).read_text() == f"plan of\ngraph of {engine}\n"
        assert machine.plan(engine).with_name("fp32.onnx").read_text() == f"graph of {engine}\n"
    assert "--maxShapes=input_ids:128x64,attention_mask:128x64" in calls[2]
    assert any(
        flag.startswith("--optShapes=hidden:16x12x256,attention_mask:16x12,rows:16,visible:16x32x32") for flag in calls[1]
    )
    again = machine.build()
    assert (again.returncode, machine.calls(), again.stdout.count("up to date")) == (0, [], len(ENGINES))
    left = {path.name for path in machine.plan(ENGINES[0]).parent.iterdir()}
    assert left == {"model.plan", "model.plan.stamp", "fp32.onnx"}


@pytest.mark.parametrize(
    ("change", "environment", "rebuilt"),
    [
        pytest.param(lambda m: m.gpu("NVIDIA L4, 8.9"), {}, 3, id="another GPU"),
        pytest.param(lambda m: m.program("trtexec", TRTEXEC.replace("v100500", "v100600")), {}, 3, id="another TensorRT"),
        pytest.param(lambda m: (m.folder / "onnx" / "embedder_encoder.onnx").write_text("new\n"), {}, 1, id="another graph"),
        pytest.param(lambda m: m.plan("speller_encoder").write_text("cut short"), {}, 1, id="a plan damaged"),
        pytest.param(lambda m: m.plan("speller_decoder").unlink(), {}, 1, id="a plan removed"),
        pytest.param(lambda m: None, {"PRECISION": "fp32"}, 3, id="another precision"),
        pytest.param(lambda m: None, {"FORCE": "1"}, 3, id="forced"),
    ],
)
def test_a_stale_plan_is_built_again(machine: Machine, change, environment: dict[str, str], rebuilt: int) -> None:  # type: ignore[no-untyped-def]
    """What a plan was built from or for has changed, or the plan is not the one that the stamp speaks of."""
    machine.build()
    machine.calls()
    change(machine)
    assert machine.build(**environment).returncode == 0
    assert len(machine.calls()) == rebuilt


def test_int8_takes_the_graphs_with_scales(machine: Machine) -> None:
    """PRECISION=int8 builds from <engine>.int8.onnx, and says how to make them when they are missing."""
    missing = machine.build(PRECISION="int8")
    assert missing.returncode == 1 and "searchbar engines export --int8" in missing.stderr
    for engine in ENGINES:
        (machine.folder / "onnx" / f"{engine}.int8.onnx").write_text(f"scales of {engine}\n")
    assert machine.build(PRECISION="int8").returncode == 0
    assert all({"--fp16", "--int8"} <= set(call) for call in machine.calls())
    assert machine.plan("embedder_encoder").read_text() == "plan of\nscales of embedder_encoder\n"
    assert machine.plan("embedder_encoder").with_name("fp32.onnx").read_text() == "graph of embedder_encoder\n"


def test_a_failed_build_leaves_the_old_plan(machine: Machine) -> None:
    """When trtexec fails, its last lines are shown, the plan that was there stays whole, and nothing half-made is left."""
    machine.build()
    before = machine.plan("speller_decoder").read_text()
    (machine.folder / "onnx" / "speller_decoder.onnx").write_text("cannot be built\n")
    failed = machine.build(BREAK="speller_decoder")
    assert failed.returncode == 1 and "no importer for Foo" in failed.stderr and "speller_decoder" in failed.stderr
    assert machine.plan("speller_decoder").read_text() == before
    assert not list(machine.plan("speller_decoder").parent.glob(".*"))


@pytest.mark.parametrize(
    ("spoil", "environment", "said"),
    [
        pytest.param(lambda m: (m.folder / "bin" / "trtexec").unlink(), {}, "no trtexec", id="no trtexec"),
        pytest.param(lambda m: m.program("nvidia-smi", "#!/bin/sh\nexit 9\n"), {}, "no NVIDIA GPU", id="no GPU"),
        pytest.param(lambda m: shutil.rmtree(m.folder / "onnx"), {}, "'searchbar engines export'", id="nothing exported"),
        pytest.param(lambda m: shutil.rmtree(m.folder / "models"), {}, "no model repository", id="no repository"),
        pytest.param(lambda m: None, {"PRECISION": "bf8"}, "fp16, fp32 or int8", id="unknown precision"),
    ],
)
def test_what_is_missing_is_named(machine: Machine, spoil, environment: dict[str, str], said: str) -> None:  # type: ignore[no-untyped-def]
    """The first thing that is missing is named in one line, and nothing is built."""
    spoil(machine)
    done = machine.build(**environment)
    assert done.returncode == 1 and said in done.stderr
    assert machine.calls() == []
