"""`searchbar train speller`: from a CSV to a speller that is served, on one process and on two, stopped and gone on."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from app.cli import cli
from app.errors import InvalidInput
from app.inference import Array, text_tensor
from app.settings import ROOT, Settings
from app.stack import inference
from tests.training.conftest import ENVIRONMENT, Train, copy_of_the_repository

SHIPPED = str(ROOT / "training" / "checkpoints" / "speller")
QUERIES = ["halo", "bilie jean micheal jackson", "🎵", "x" * 64]
OUTPUTS = ["TEXT", "LOGPROB", "QUERY_LOGPROB", "CANDIDATE_LOGPROBS"]


def facts(out: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((out / "run.json").read_text())
    return found


async def served(repository: Path) -> dict[str, Array]:
    """What the embedded Triton answers over `repository`."""
    texts = text_tensor([[query] for query in QUERIES])
    async with inference(Settings(model_repository=repository)) as (client, _):
        return await client.infer("speller", {"QUERY": texts, "CANDIDATES": texts}, OUTPUTS, 60.0)


def check(answer: dict[str, Array]) -> None:
    """Every query has a text, and log-probabilities that are numbers; a query scores the same as a candidate reading."""
    assert [text.decode() is not None for text in answer["TEXT"][:, 0]] == [True] * len(QUERIES)
    assert np.isfinite(answer["LOGPROB"]).all() and (answer["LOGPROB"] < 0).all()
    assert answer["QUERY_LOGPROB"] == pytest.approx(answer["CANDIDATE_LOGPROBS"], rel=1e-3)


@pytest.fixture(scope="module")
def trained(run: Train, catalogue: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """(checkpoint, model repository, what was printed) of a tiny speller trained on 1 000 rows and installed."""
    folder = tmp_path_factory.mktemp("trained")
    out, repository = folder / "speller", copy_of_the_repository(folder)
    shape = ("--config", "tiny", "--steps", 30, "--micro-batch", 128)
    done = run("searchbar", "train", "speller", "--catalogue", catalogue, "--out", out, *shape, "--install-to", repository)
    assert done.returncode == 0, done.stderr
    return out, repository, done.stdout


def test_a_thousand_rows_train_to_the_end(trained: tuple[Path, Path, str]) -> None:
    """All steps are made, with batches of 256 put together from micro-batches; the loss falls below that of a guess."""
    out, _, said = trained
    assert (facts(out)["steps"], facts(out)["examples"]) == (30, 30 * 256)
    assert "batch 256 = 1 process(es) × 2 × 128" in said
    loss = re.search(r"loss ([\d.]+)", said)
    assert loss and float(loss[1]) < np.log(512)
    assert {"config.json", "model.safetensors", "tokenizer.json", "run.json"} <= {file.name for file in out.iterdir()}
    assert not (out / "state.pt").exists() and not list(out.glob(".saving*"))


async def test_what_was_trained_is_served_by_the_embedded_triton(trained: tuple[Path, Path, str]) -> None:
    """A network a quarter as wide as the shipped one, with another vocabulary, answers through the same models."""
    check(await served(trained[1]))


def test_a_finished_run_is_left_as_it_is(run: Train, catalogue: Path, trained: tuple[Path, Path, str]) -> None:
    """Given again, the command says that there is nothing to do, and does nothing."""
    out = trained[0]
    before = (out / "model.safetensors").read_bytes()
    done = run("searchbar", "train", "speller", "--catalogue", catalogue, "--out", out, "--config", "tiny", "--steps", 30)
    assert done.returncode == 0, done.stderr
    assert "finished run (30 steps, 7,680 examples): nothing to do" in done.stdout
    assert (out / "model.safetensors").read_bytes() == before


def test_a_killed_run_goes_on_from_its_checkpoint(venv: Path, run: Train, catalogue: Path, tmp_path: Path) -> None:
    """Steps and examples of both parts add up; a single name is enough to train on, and --init takes what was saved."""
    out = tmp_path / "speller"
    command = ["train", "speller", "--catalogue", catalogue, "--out", out, "--config", "tiny", "--batch-size", 16]
    with (tmp_path / "log").open("wb") as log:
        endless = [str(venv / "searchbar"), *map(str, command), "--steps", "1000000", "--checkpoint-minutes", "0.001"]
        process = subprocess.Popen(endless, stdout=log, stderr=log, env=ENVIRONMENT)
        try:
            deadline = time.monotonic() + 200
            while not (out / "state.pt").exists() and time.monotonic() < deadline and process.poll() is None:
                time.sleep(0.02)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert (out / "state.pt").exists(), (tmp_path / "log").read_text()
    killed_at = int(str(facts(out)["steps"]))
    done = run("searchbar", *command, "--steps", killed_at + 20)
    assert done.returncode == 0, done.stderr
    resumed = re.search(r"resuming at step ([\d,]+)", done.stdout)
    assert resumed and 0 < int(resumed[1].replace(",", "")) <= killed_at
    assert (facts(out)["steps"], facts(out)["examples"]) == (killed_at + 20, 16 * (killed_at + 20))
    one = tmp_path / "one.csv"
    one.write_text("title\nHalo\n")
    more = ["--catalogue", one, "--out", tmp_path / "more", "--init", out, "--layers", "1+1", "--steps", 1]
    done = run("searchbar", "train", "speller", *more, "--no-compile", "--batch-size", 4)
    assert done.returncode == 0, done.stderr
    assert facts(tmp_path / "more")["steps"] == 1


def test_two_processes_train_one_model(venv: Path, run: Train, catalogue: Path, tmp_path: Path) -> None:
    """Under torchrun the batch is shared, one process prints, and one checkpoint is written."""
    out = tmp_path / "speller"
    shape = ("--config", "tiny", "--steps", 4, "--batch-size", 64, "--micro-batch", 16)
    command = (venv / "searchbar", "train", "speller", "--catalogue", catalogue, "--out", out, *shape)
    done = run("torchrun", "--no-python", "--nproc-per-node", 2, *command)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("batch 64 = 2 process(es) × 2 × 16") == 1
    assert done.stdout.count(" done") == 1
    assert (facts(out)["steps"], facts(out)["examples"]) == (4, 256)


def test_gradients_are_those_of_all_processes_examples(run: Train, catalogue: Path, tmp_path: Path) -> None:
    """Two processes draw different examples, and their step is the step of one process over all of them."""
    script = Path(__file__).with_name("two_processes.py")
    done = run("torchrun", "--nproc-per-node", 2, script, catalogue, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    seen = json.loads((tmp_path / "out" / "seen.json").read_text())
    first, second = map(set, seen["drawn"])
    assert len(seen["drawn"][0]) == len(seen["drawn"][1]) == 16
    assert len(first & second) <= 4  # by chance
    assert seen["difference"] < 1e-3 * seen["size"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param(["--steps", "1", "--minutes", "1"], "give one of them", id="two lengths"),
        pytest.param(["--init", "x", "--config", "tiny"], "leave --config out", id="two shapes"),
        pytest.param(["--layers", "3"], "--layers 3: say how many in the encoder and in the decoder", id="half a shape"),
    ],
)
def test_options_that_contradict_each_other_are_refused(tmp_path: Path, options: list[str], said: str) -> None:
    """Before anything is read or made."""
    result = CliRunner().invoke(cli, ["train", "speller", "--catalogue", "a.csv", "--out", str(tmp_path / "out"), *options])
    assert isinstance(result.exception, InvalidInput)
    assert said in str(result.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("table", "options", "said"),
    [
        pytest.param("title\n🎵\n", [], "bad.csv: no name to learn in its 1 rows", id="nothing to learn"),
        pytest.param("title\nHalo\n", ["--init", "/no/such/model"], "--init /no/such/model: no such directory", id="no init"),
        pytest.param("title\nHalo\n", ["--init", "no/such-model"], "--init no/such-model: ", id="not on the hub"),
        pytest.param(
            "title\nHalo\n", ["--init", SHIPPED, "--layers", "3+2"], "2 of 1 layers cannot be kept", id="no such layer"
        ),
        pytest.param("title\nHalo\n", ["--install-to", "/tmp"], "/tmp is no model repository", id="nowhere to install"),
        pytest.param("title\nHalo\n", ["--precision", "fp16"], "fp16 needs a GPU", id="no fp16"),
    ],
)
def test_what_cannot_be_trained_is_said_without_a_traceback(
    run: Train, tmp_path: Path, table: str, options: list[str], said: str
) -> None:
    """One message that names what is wrong."""
    (tmp_path / "bad.csv").write_text(table)
    done = run("searchbar", "train", "speller", "--catalogue", tmp_path / "bad.csv", "--out", tmp_path / "out", *options)
    assert done.returncode == 1
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


@pytest.mark.slow
async def test_a_model_of_bart_base_s_shape_is_served(run: Train, catalogue: Path, tmp_path: Path) -> None:
    """Random weights, 6 + 6 layers, 768 wide: exported, installed and asked like any other."""
    repository, out = copy_of_the_repository(tmp_path), tmp_path / "speller"
    shape = ("--config", "base", "--steps", 0, "--install-to", repository)
    searchbar = ("python", "-P", Path(__file__).with_name("few_names.py"))
    done = run(*searchbar, "train", "speller", "--catalogue", catalogue, "--out", out, *shape)
    assert done.returncode == 0, done.stderr
    config = json.loads((out / "config.json").read_text())
    assert config["architectures"] == ["BartForConditionalGeneration"]
    assert [config[name] for name in ("d_model", "encoder_layers", "decoder_layers", "encoder_ffn_dim")] == [768, 6, 6, 3072]
    shutil.rmtree(out)
    check(await served(repository))
