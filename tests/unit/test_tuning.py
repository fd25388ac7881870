"""Tuning without a server: configurations edited, reports read, settings chosen."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
import yaml
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from app.domain import Item
from app.errors import SetupError
from app.settings import ROOT
from training.tuning import model_analyzer, perf_analyzer, plan, report
from training.tuning.choose import Candidate, Trial, Verdict, choose, compare
from training.tuning.perf_analyzer import PerfAnalyzer, Point
from training.tuning.repository import config_file, copy_repository
from training.tuning.settings import NAIVE, Setting, adopt, current
from training.tuning.traffic import queries

MODELS = ROOT / "triton" / "models"
BATCHED = Setting(2, True, (8, 16), 500)


def served(name: str) -> str:
    return config_file(MODELS, name).read_text(encoding="utf-8")


@pytest.mark.parametrize("model", ["embedder_encoder"])
@pytest.mark.parametrize("setting", [pytest.param(NAIVE, id="naive"), pytest.param(BATCHED, id="batched")])
def test_a_setting_becomes_configuration(model: str, setting: Setting) -> None:
    """Triton's own schema reads from the edited text what was set, and the rest as it was."""
    before = text_format.Parse(served(model), ModelConfig())
    after = text_format.Parse(setting.apply(served(model)), ModelConfig())
    assert after.instance_group[0].count == setting.instances
    assert after.HasField("dynamic_batching") == setting.batching
    if setting.batching:
        assert after.dynamic_batching.max_queue_delay_microseconds == 500
        assert list(after.dynamic_batching.preferred_batch_size) == [8, 16]
        assert after.dynamic_batching.default_queue_policy == before.dynamic_batching.default_queue_policy
    for config in (before, after):
        config.ClearField("instance_group")
        config.ClearField("dynamic_batching")
    assert after == before


@pytest.mark.parametrize(
    "model", ["speller", "embedder", "speller_decoder", "speller_generate", "speller_encoder", "embedder_tokenize"]
)
def test_a_model_without_a_batcher_gets_instances_alone(model: str) -> None:
    """The decoder has no batch axis of Triton's; in front of the others a batcher would sleep."""
    config = text_format.Parse(Setting(2).apply(served(model)), ModelConfig())
    assert config.instance_group[0].count == 2 and not config.HasField("dynamic_batching")


def test_adopting_keeps_comments_and_cites_the_last_run() -> None:
    """Values change, a citation stands above them once, and every other line stays."""
    text = adopt(adopt(served("embedder_encoder"), Setting(), "first"), BATCHED, "second")
    assert current(text) == BATCHED
    assert "# Tuned: second\ndynamic_batching {" in text and "first" not in text
    assert next(line for line in served("embedder_encoder").splitlines() if line.startswith("#")) in text
    assert adopt(text, BATCHED, "second") == text


def test_an_unknown_form_is_refused() -> None:
    """A configuration that cannot be edited is named, not served as if it had been."""
    with pytest.raises(SetupError, match="instance_group"):
        BATCHED.apply('name: "m"\ninstance_group { count: 1 }\n')


def trial(name: str, points: list[tuple[int, float, float]], number: int = 0, instances: int = 1) -> Trial:
    settings = {"m": Setting(instances)}
    return Trial("m", Candidate(name, settings), number, tuple(Point(*point) for point in points))


@pytest.mark.parametrize(
    ("trials", "chosen"),
    [
        pytest.param([trial("slow", [(8, 100, 5)]), trial("late", [(8, 900, 26)])], "slow", id="over the budget"),
        pytest.param([trial("a", [(8, 100, 5), (16, 300, 24.9)]), trial("b", [(8, 200, 5)])], "a", id="any concurrency"),
        pytest.param([trial("two", [(8, 102, 5)], instances=2), trial("one", [(8, 100, 5)])], "one", id="simple when alike"),
        pytest.param([trial("one", [(8, 100, 5)]), trial("two", [(8, 110, 5)], instances=2)], "two", id="more when worth it"),
        pytest.param([trial("a", [(8, 900, 90)]), trial("b", [(8, 10, 30)])], "b", id="none within: least late"),
        pytest.param([trial("failed", []), trial("b", [(8, 1, 5)])], "b", id="unmeasured"),
    ],
)
def test_the_choice(trials: list[Trial], chosen: str) -> None:
    """Most throughput within the budget wins, the simpler of two alike."""
    assert choose(trials).candidate.name == chosen


def test_nothing_measured_is_an_error() -> None:
    """No choice is made out of nothing."""
    with pytest.raises(SetupError, match="could be measured"):
        choose([trial("failed", [])])


def test_the_verdict_is_of_the_rounds_alone() -> None:
    """Medians of the rounds are compared; the search, in which luck chose, does not count."""
    rounds = [trial(n, [(8, v, 5)], i) for i in (1, 2, 3) for n, v in (("naive", 100 * i), ("best", 300))]
    assert compare([trial("best", [(8, 9000, 5)]), *rounds], "naive", "best") == Verdict(200, 300)


@pytest.mark.parametrize(
    ("verdict", "says"),
    [
        pytest.param(Verdict(100, 120), None, id="enough"),
        pytest.param(Verdict(100, 119), "1.19 ×", id="too little"),
        pytest.param(Verdict(100, 0), "0.00 ×", id="chosen late"),
        pytest.param(Verdict(0, 100), "nothing to compare with", id="naive late"),
    ],
)
def test_the_judgement(verdict: Verdict, says: str | None) -> None:
    """Only a ratio of 1.2 or more passes, and no ratio is no pass."""
    wrong = report.judge({"embedder": verdict})
    assert wrong is None if says is None else says in str(wrong)
    assert report.judge({}) == "embedder was not compared"


def test_perf_analyzers_report() -> None:
    """Throughput and p90 in the units that the names say; a report without a measurement is an error."""
    text = "Concurrency,Inferences/Second,Client Send,p50 latency,p90 latency,p99 latency\n8,601.5,3,9000,23354,25000\n"
    assert perf_analyzer.parse(text) == Point(8, 601.5, 23.354, 9.0, 25.0)
    at_rate = text.replace("Concurrency", "Request Rate").replace("\n8,", "\n400,")
    assert perf_analyzer.parse(at_rate) == Point(0, 601.5, 23.354, 9.0, 25.0)
    with pytest.raises(SetupError, match="no measurement"):
        perf_analyzer.parse("Concurrency,Inferences/Second\n")


def test_model_analyzers_table() -> None:
    """Its own headers are read; others are an error."""
    text = (
        "Model,Model Config Path,Instance Group,Max Batch Size,Concurrency,Throughput (infer/sec),p90 Latency (ms),"
        "Satisfies Constraints\nembedder_encoder,embedder_encoder_config_0,2:CPU,128,4,237.9,20.0,Yes\n"
    )
    assert model_analyzer.parse(text) == [
        model_analyzer.Row("embedder_encoder", "embedder_encoder_config_0", "2:CPU, max batch 128", 4, 237.9, 20.0)
    ]
    with pytest.raises(SetupError, match="not as expected"):
        model_analyzer.parse("Model,Concurrency\nm,4\n")


@pytest.mark.parametrize(
    ("script", "says"),
    [
        pytest.param(
            "echo 'libb64.so.0d: cannot open shared object file' >&2; exit 127", "apt-get install libb64-0d", id="libb64"
        ),
        pytest.param("echo 'error while loading shared libraries: libz' >&2; exit 127", "does not start", id="another"),
    ],
)
def test_a_load_generator_that_does_not_start_names_the_cure(tmp_path: Path, script: str, says: str) -> None:
    """Which library is missing decides what is said."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "perf_analyzer").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "bin" / "perf_analyzer").chmod(0o755)
    with pytest.raises(SetupError, match=says):
        PerfAnalyzer.prepare(tmp_path)


def test_no_load_generator_names_the_command(tmp_path: Path) -> None:
    """Without the virtual environment the target that makes it is named."""
    with pytest.raises(SetupError, match="make analyzer"):
        PerfAnalyzer.prepare(tmp_path)


def test_traffic_is_names_most_of_them_mistyped() -> None:
    """Queries come from the catalogue, the famous more often, about seven of ten with an error; the same every time."""
    items = [Item("1", "Bohemian Rhapsody", popularity=90), Item("2", "Yesterday", popularity=10)]
    drawn = queries(items, 400, random.Random(1))
    clean = [text for text in drawn if text in ("bohemian rhapsody", "yesterday")]
    assert 0.2 < len(clean) / len(drawn) < 0.45
    assert clean.count("bohemian rhapsody") > 4 * clean.count("yesterday")
    assert drawn == queries(items, 400, random.Random(1))


def test_the_copy_has_the_cpus_configurations(tmp_path: Path) -> None:
    """Every model has the configuration that the CPU serves by, in the one place where Model Analyzer looks."""
    copy_repository(MODELS, tmp_path / "models")
    for model in (path.name for path in MODELS.iterdir() if path.is_dir()):
        assert (tmp_path / "models" / model / "config.pbtxt").read_text(encoding="utf-8") == served(model)
        assert not (tmp_path / "models" / model / "configs").exists()


@pytest.mark.parametrize("name", sorted({*plan.full().profiles, *plan.quick().profiles}))
def test_profiles_name_models_and_the_budget(name: str) -> None:
    """Each Model Analyzer profile asks models of the repository, with the inputs written for them, within the budget."""
    profile = yaml.safe_load((ROOT / "triton" / "analyzer" / f"{name}.yaml").read_text(encoding="utf-8"))
    assert profile["triton_launch_mode"] == "remote"
    assert profile["constraints"] == {"perf_latency_p90": {"max": 25}}
    for model, spec in profile["profile_models"].items():
        flags = spec.get("perf_analyzer_flags", profile.get("perf_analyzer_flags"))
        assert (MODELS / model).is_dir() and flags["input-data"] == f"inputs/{model}.json"


def test_the_readmes_section_is_replaced() -> None:
    """What stands between the markers goes, the rest stays, and a README without markers is refused."""
    old = f"head\n{report.BEGIN}\nold\n{report.END}\ntail\n"
    assert (
        report.replace_section(old, f"{report.BEGIN}\nnew\n{report.END}") == f"head\n{report.BEGIN}\nnew\n{report.END}\ntail\n"
    )
    with pytest.raises(SetupError, match="no lines"):
        report.replace_section("nothing", "new")


def test_no_ratio_is_no_pass() -> None:
    """A naive setting that is never in time gives no ratio."""
    assert math.isnan(Verdict(0, 100).ratio) and not Verdict(0, 100).enough
