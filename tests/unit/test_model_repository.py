"""The model repository by its own schema: every configuration parses, both engines agree, every queue is bounded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from app import embedder, speller
from app.settings import Settings

REPOSITORY = Settings().model_repository
CONFIGS = sorted(REPOSITORY.glob("*/config.pbtxt")) + sorted(REPOSITORY.glob("*/configs/*.pbtxt"))


def parse(path: Path) -> Any:
    return text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())


def tensors(config: Any) -> list[tuple[str, int, tuple[int, ...]]]:
    return [(tensor.name, tensor.data_type, tuple(tensor.dims)) for tensor in (*config.input, *config.output)]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_a_configuration_parses_and_bounds_its_queue(path: Path) -> None:
    """Triton's own schema accepts it; whatever batches dynamically refuses work beyond its queue."""
    config = parse(path)
    assert config.name == path.relative_to(REPOSITORY).parts[0]
    if config.HasField("dynamic_batching"):
        assert config.dynamic_batching.default_queue_policy.max_queue_size > 0
    else:
        assert config.platform == "ensemble" or config.name == "speller_decoder", "an unbounded queue"


@pytest.mark.parametrize("model", sorted(p.parent.name for p in REPOSITORY.glob("*/configs")))
def test_both_engines_of_a_model_have_the_same_tensors(model: str) -> None:
    """A client, an ensemble and the BLS model cannot tell the CPU engine from the GPU's."""
    cpu, gpu = (parse(REPOSITORY / model / "configs" / f"{name}.pbtxt") for name in ("cpu", "gpu"))
    assert tensors(cpu) == tensors(gpu)
    assert cpu.max_batch_size == gpu.max_batch_size


@pytest.mark.parametrize("name", ["speller", "embedder"])
def test_an_ensemble_is_wired_from_end_to_end(name: str) -> None:
    """Its steps exist, and every mapped tensor is one of the step's."""
    for step in parse(REPOSITORY / name / "config.pbtxt").ensemble_scheduling.step:
        folder = REPOSITORY / step.model_name
        (path,) = [*folder.glob("config.pbtxt"), *folder.glob("configs/cpu.pbtxt")]
        names = {tensor for tensor, *_ in tensors(parse(path))}
        assert set(step.input_map) | set(step.output_map) <= names


def test_the_client_batches_no_more_than_the_models_take() -> None:
    """`MAX_BATCH` of the clients is `max_batch_size` of their ensembles, and the outputs asked for are theirs."""
    spelling, embedding = (parse(REPOSITORY / name / "config.pbtxt") for name in (speller.MODEL, embedder.MODEL))
    assert spelling.max_batch_size == speller.MAX_BATCH
    assert embedding.max_batch_size == embedder.MAX_BATCH
    assert set(speller.OUTPUTS) <= {tensor.name for tensor in spelling.output}
