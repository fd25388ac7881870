"""The model repository by its own schema: every configuration parses, both engines agree, no queue grows without end."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from app import embedder, speller
from app.settings import Settings
from training.tuning.repository import config_file

REPOSITORY = Settings().model_repository
PROFILES = json.loads((REPOSITORY.parent / "engines" / "profiles.json").read_text(encoding="utf-8"))
UNBATCHED = {"embedder_tokenize", "speller_tokenize", "speller_generate", "speller_detokenize", "speller_decoder"}
UNBATCHED_ON_CPU = {"speller", "embedder", "speller_encoder"}
CONFIGS = sorted(REPOSITORY.glob("*/config.pbtxt")) + sorted(REPOSITORY.glob("*/configs/*.pbtxt"))


def parse(path: Path) -> Any:
    return text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())


def tensors(config: Any) -> list[tuple[str, int, tuple[int, ...]]]:
    return [(tensor.name, tensor.data_type, tuple(tensor.dims)) for tensor in (*config.input, *config.output)]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_a_configuration_parses_and_bounds_its_queue(path: Path) -> None:
    """Triton's own schema accepts it; whatever batches dynamically refuses work beyond its queue.

    What does not is quick and leads to a model that refuses, or has a caller that is bounded; and a batcher is never alone with
    one CPU instance (docs/adr/0018-no-batcher.md).
    """
    config = parse(path)
    assert config.name == path.relative_to(REPOSITORY).parts[0]
    if config.HasField("dynamic_batching"):
        assert config.dynamic_batching.default_queue_policy.max_queue_size > 0
        on_cpu = [group for group in config.instance_group if group.kind == group.KIND_CPU]
        assert all(group.count > 1 for group in on_cpu), "the batcher would sleep"
    else:
        may = UNBATCHED | UNBATCHED_ON_CPU if path.stem in ("cpu", "one_process", "one_process_cuda") else UNBATCHED
        assert config.platform == "ensemble" or config.name in may, "an unbounded queue"


@pytest.mark.parametrize("model", sorted(p.parents[1].name for p in REPOSITORY.glob("*/configs/gpu.pbtxt")))
def test_all_engines_of_a_model_have_the_same_tensors(model: str) -> None:
    """A client, an ensemble and the BLS model cannot tell the CPU engine from the GPU's two."""
    cpu, gpu, cuda = (parse(REPOSITORY / model / "configs" / f"{name}.pbtxt") for name in ("cpu", "gpu", "cuda"))
    assert tensors(cpu) == tensors(gpu) == tensors(cuda)
    assert cpu.max_batch_size == gpu.max_batch_size == cuda.max_batch_size
    assert (gpu.default_model_filename, cuda.default_model_filename) == ("model.plan", "fp32.onnx")


@pytest.mark.parametrize("model", ["speller", "embedder"])
@pytest.mark.parametrize("config", ["one_process", "one_process_cuda"])
def test_one_process_takes_and_gives_what_the_ensemble_does(model: str, config: str) -> None:
    """A top model that is one process instead of an ensemble, on a CPU or a GPU: whoever asks it cannot tell."""
    ensemble, one = parse(REPOSITORY / model / "config.pbtxt"), parse(REPOSITORY / model / "configs" / f"{config}.pbtxt")
    assert tensors(one) == tensors(ensemble)
    assert (one.backend, one.max_batch_size) == ("python", ensemble.max_batch_size)
    (group,) = one.instance_group
    assert group.kind == (group.KIND_GPU if config.endswith("cuda") else group.KIND_CPU)


def shapes(tensors_of: Any, batch: int) -> dict[str, list[int]]:
    """Input → shape of a warm-up sample or a CUDA graph, the batch axis in front where there is one."""
    return {name: [batch, *tensor.dims] if batch else list(tensor.dims) for name, tensor in tensors_of.items()}


@pytest.mark.parametrize("model", sorted(PROFILES))
def test_a_plan_takes_what_its_model_takes(model: str) -> None:
    """The profile has the inputs and ranks of gpu.pbtxt, its whole batch, and every shape that is warmed up or made a graph."""
    config, profile = parse(REPOSITORY / model / "configs" / "gpu.pbtxt"), PROFILES[model]
    batched = config.max_batch_size > 0
    for tensor in config.input:
        bounds, dims = profile[tensor.name], [-1] * batched + list(tensor.dims)
        assert {len(shape) for shape in bounds.values()} == {len(dims)}
        for dim, low, usual, high in zip(dims, *(bounds[name] for name in ("min", "opt", "max")), strict=True):
            assert 1 <= low <= usual <= high and (dim == -1 or low == high == dim)
        assert not batched or (bounds["min"][0], bounds["max"][0]) == (1, config.max_batch_size)
    assert {tensor.name for tensor in config.input} == set(profile)
    samples = [shapes(sample.inputs, sample.batch_size if batched else 0) for sample in config.model_warmup]
    graphs = []
    for spec in config.optimization.cuda.graph_spec:
        graphs.append({name: [spec.batch_size, *shape.dim] for name, shape in spec.input.items()})
    for sample in samples + graphs:
        assert set(sample) == set(profile)
        for name, shape in sample.items():
            lows, highs = profile[name]["min"], profile[name]["max"]
            assert all(low <= size <= high for size, low, high in zip(shape, lows, highs, strict=True))
    assert all(graph in samples for graph in graphs), "a graph's shape is not warmed up"


def test_profiles_are_as_long_as_the_models_make_them() -> None:
    """The longest shapes are what tokenizers cut off at, and what trees of the longest drafts come to."""
    buckets = constants("embedder_tokenize", "wordpiece.py")["BUCKETS"]
    lengths = [PROFILES["embedder_encoder"]["input_ids"][name][1] for name in ("min", "opt", "max")]
    assert (lengths[0], lengths[2]) == (buckets[0], buckets[-1]) and lengths[1] in buckets
    longest = constants("speller_tokenize", "bpe.py")["MAX_TOKENS"]
    assert PROFILES["speller_encoder"]["input_ids"]["max"] == [speller.MAX_BATCH, longest]
    decoder = {name: bounds["max"] for name, bounds in PROFILES["speller_decoder"].items()}
    assert decoder["hidden"][:2] == decoder["attention_mask"] == [speller.MAX_BATCH, longest]
    limits = constants("speller_generate", "aggressive.py")
    drafts = 1 + (1 + speller.MAX_CANDIDATES) * (longest - 1)  # the query and its candidates, apart from the start
    tails = 1 + limits["MAX_TOKENS"] * (1 + limits["MAX_TAILS"] + 1)  # what is accepted, its tails, one repetition
    trees, width, _ = decoder["visible"]
    assert decoder["rows"] == [trees] == [speller.MAX_BATCH] and width >= max(drafts, tails)
    for name in ("slots", "tokens", "positions", "asked", "edges", "labels"):
        assert decoder[name] == [trees * width]


def constants(model: str, file: str = "model.py") -> dict[str, Any]:
    """The constants at the top of a model's file, read and not run."""
    tree = ast.parse((REPOSITORY / model / "1" / file).read_text(encoding="utf-8"))
    found = [node for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)]
    return {node.targets[0].id: ast.literal_eval(node.value) for node in found}  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["speller", "embedder"])
def test_an_ensemble_is_wired_from_end_to_end(name: str) -> None:
    """Its steps exist, and every mapped tensor is one of the step's."""
    for step in parse(REPOSITORY / name / "config.pbtxt").ensemble_scheduling.step:
        names = {tensor for tensor, *_ in tensors(parse(config_file(REPOSITORY, step.model_name)))}
        assert set(step.input_map) | set(step.output_map) <= names


def test_the_client_batches_no_more_than_the_models_take() -> None:
    """`MAX_BATCH` of the clients is `max_batch_size` of their ensembles, and the outputs asked for are theirs."""
    spelling, embedding = (parse(REPOSITORY / name / "config.pbtxt") for name in (speller.MODEL, embedder.MODEL))
    assert spelling.max_batch_size == speller.MAX_BATCH
    assert embedding.max_batch_size == embedder.MAX_BATCH
    assert set(speller.OUTPUTS) <= {tensor.name for tensor in spelling.output}


def test_tokenizers_start_no_threads() -> None:
    """A batch is tokenised in the thread that asks: a pool's threads would keep cores busy while they wait for the next one."""
    program = f"""
import os, sys
sys.path[:0] = {[str(REPOSITORY / model / "1") for model in ("embedder_tokenize", "speller_tokenize")]!r}
import numpy as np
import bpe, wordpiece
texts = [b"bohemian rhapsody"] * 32
before = len(os.listdir("/proc/self/task"))
wordpiece.Tokens(wordpiece.__file__.replace("wordpiece.py", "tokenizer.json"))(texts)
bpe.Tokens(bpe.__file__.replace("bpe.py", "tokenizer.json"))(np.array([texts], dtype=object))
print(len(os.listdir("/proc/self/task")) - before)
"""
    environment = {name: value for name, value in os.environ.items() if name != "TOKENIZERS_PARALLELISM"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "0"
