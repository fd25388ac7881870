"""An index taken forward: embeddings taken over, rows updated and removed, vectors shortened and quantised, memory bounded."""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from typer.testing import CliRunner

from app.cli import cli
from app.domain import IndexQuery
from app.errors import InvalidInput
from app.index.build import BuildReport, Mode, build_index
from app.index.change import remove_items
from app.index.edge import EdgeIndex
from app.index.edge_layout import EdgeLayout
from app.index.encoder import PassageEncoder
from app.index.manifest import EXTERNAL, Manifest
from app.inference import text_tensor
from app.settings import ROOT, Settings
from training.local import LocalBackend

DIMENSIONS = 32
HEADER = "id,title,artist,popularity"


class Embedding:
    """A fixed random direction for each passage; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, passages: list[str]) -> npt.NDArray[np.float32]:
        self.asked += passages
        return np.stack([direction(passage) for passage in passages])


def direction(passage: str, dimensions: int = DIMENSIONS) -> npt.NDArray[np.float32]:
    vector = np.random.default_rng(list(passage.encode())).standard_normal(dimensions).astype(np.float32)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


async def build(
    tmp_path: Path,
    rows: list[str],
    mode: Mode = "replace",
    dimensions: int = DIMENSIONS,
    embedder: str = "weights",
    layout: EdgeLayout | None = None,
) -> tuple[BuildReport, list[str]]:
    """The report, and the passages that were embedded."""
    source, embed = tmp_path / "songs.csv", Embedding()
    source.write_text("\n".join((HEADER, *rows)), encoding="utf-8")
    report = await build_index(
        source, tmp_path / "out", embed, dimensions, embedder, lambda done, total: None, mode=mode, layout=layout
    )
    return report, embed.asked


async def held(tmp_path: Path) -> dict[str, tuple[str, float]]:
    """id → title and popularity."""
    index = EdgeIndex.open(tmp_path / "out")
    found = {item.id: (item.title, item.popularity) async for item in index.items()}
    await index.close()
    return found


OLD = ["a,Halo,Beyonce,90", "b,Hello,Adele,80", "c,Yellow,Coldplay,70"]


@pytest.mark.asyncio
async def test_a_rebuild_embeds_only_what_is_new_or_worded_otherwise(tmp_path: Path) -> None:
    """Replacing must take over the embedding of every unchanged passage, drop what is gone and keep the vectors right."""
    await build(tmp_path, OLD)
    report, asked = await build(tmp_path, ["a,Halo,Beyonce,95", "b,Hello Again,Adele,80", "d,Clocks,Coldplay,60"])
    assert asked == ["hello again by adele", "clocks by coldplay"]
    assert (report.counts.embedded, report.counts.taken_over, report.items) == (2, 1, 3)
    assert await held(tmp_path) == {"a": ("Halo", 95.0), "b": ("Hello Again", 80.0), "d": ("Clocks", 60.0)}
    index = EdgeIndex.open(tmp_path / "out")
    [hits] = await index.query([IndexQuery("", direction("halo by beyonce"), 1)])
    assert hits[0].item.id == "a"
    await index.close()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("embedder", "then"),
    [
        pytest.param("weights", "other weights", id="other weights"),
        pytest.param(EXTERNAL, EXTERNAL, id="weights nobody can see"),
    ],
)
async def test_embeddings_of_other_weights_are_not_taken_over(tmp_path: Path, embedder: str, then: str) -> None:
    """Vectors of two models do not compare: without the certainty that they are one, every passage is embedded again."""
    await build(tmp_path, OLD, embedder=embedder)
    report, asked = await build(tmp_path, OLD, embedder=then)
    assert (len(asked), report.counts.taken_over) == (3, 0)


@pytest.mark.asyncio
async def test_a_cut_off_embedding_can_be_taken_over_and_a_longer_one_cannot(tmp_path: Path) -> None:
    """Shorter vectors follow from longer ones of the same weights, not the other way round."""
    await build(tmp_path, OLD)
    shorter, asked = await build(tmp_path, OLD, dimensions=16)
    assert (asked, shorter.counts.taken_over, Manifest.read(tmp_path / "out").dimensions) == ([], 3, 16)
    _, asked = await build(tmp_path, OLD, dimensions=DIMENSIONS)
    assert len(asked) == 3


@pytest.mark.asyncio
async def test_an_update_adds_and_replaces_by_id_and_keeps_the_rest(tmp_path: Path) -> None:
    """Only new words are embedded; equal rows are left alone; whoever has the old version open keeps it."""
    await build(tmp_path, OLD)
    old = EdgeIndex.open(tmp_path / "out")
    report, asked = await build(tmp_path, ["a,Halo,Beyonce,91", "b,Hello,Adele,80", "d,Clocks,Coldplay,60"], "update")
    assert asked == ["clocks by coldplay"]
    assert (report.counts.embedded, report.counts.taken_over, report.counts.unchanged, report.items) == (1, 1, 1, 4)
    assert await held(tmp_path) == {"a": ("Halo", 91.0), "b": ("Hello", 80.0), "c": ("Yellow", 70.0), "d": ("Clocks", 60.0)}
    assert {item.id: item.popularity async for item in old.items()} == {"a": 90.0, "b": 80.0, "c": 70.0}
    await old.close()
    index = EdgeIndex.open(tmp_path / "out")
    [hits] = await index.query([IndexQuery("clocks", direction("clocks by coldplay"), 1)])
    assert (hits[0].item.id, Manifest.read(tmp_path / "out").items) == ("d", 4)
    await index.close()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param({"embedder": "other"}, "other embedder weights", id="other weights"),
        pytest.param({"dimensions": 16}, "32 dimensions, not 16", id="other dimensions"),
    ],
)
async def test_an_update_that_does_not_fit_is_refused_and_leaves_the_old_index(
    tmp_path: Path, given: dict[str, object], message: str
) -> None:
    """Vectors that do not compare must never meet in one index; the message names the way out."""
    await build(tmp_path, OLD)
    with pytest.raises(InvalidInput, match=f"{message}.*--mode replace"):
        await build(tmp_path, ["d,Clocks,Coldplay,60"], "update", **given)  # type: ignore[arg-type]
    assert len(await held(tmp_path)) == 3


@pytest.mark.asyncio
async def test_removed_items_are_gone_and_unknown_ids_are_named(tmp_path: Path) -> None:
    """The others stay findable, the manifest counts them, and an index is never emptied by a list of ids."""
    await build(tmp_path, OLD)
    report = remove_items(iter(["a", "zz", "a"]), tmp_path / "out")
    assert (report.removed, report.items, report.unknown, report.unknown_count) == (1, 2, ("zz",), 1)
    assert set(await held(tmp_path)) == {"b", "c"}
    with pytest.raises(InvalidInput, match="no item"):
        remove_items(["b", "c"], tmp_path / "out")
    assert set(await held(tmp_path)) == {"b", "c"}


@pytest.mark.asyncio
async def test_many_quantised_pieces_answer_as_one_whole_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shortened and quantised vectors built in pieces must find their item among all, by name and by meaning."""
    monkeypatch.setattr("app.index.edge_writer.PIECE", 1_000)
    rows = [f"s{n},Song {n},Band {n % 50},{n % 100}" for n in range(3_500)]
    report, _ = await build(tmp_path, rows, dimensions=24, layout=EdgeLayout("int8"))
    manifest = Manifest.read(tmp_path / "out")
    assert (report.items, manifest.dimensions, manifest.quantisation) == (3_500, 24, "int8")
    index = EdgeIndex.open(tmp_path / "out")
    for n in (0, 999, 1_000, 2_345, 3_499):
        passage = f"song {n} by band {n % 50}"
        [by_meaning] = await index.query([IndexQuery("", direction(passage), 1)])  # longer than the index's: shortened
        [by_name] = await index.query([IndexQuery(f"song {n} band {n % 50}", None, 1)])
        assert (by_meaning[0].item.id, by_name[0].item.id) == (f"s{n}", f"s{n}")
    await index.close()
    assert engine_config(tmp_path)["max_search_threads"] == 0


@pytest.mark.asyncio
async def test_one_piece_is_searched_by_its_caller(tmp_path: Path) -> None:
    """A small index starts no search threads: who asks it waits anyway, and hands nothing over."""
    await build(tmp_path, [f"s{n},Song {n},Band,{n}" for n in range(50)], dimensions=24)
    assert engine_config(tmp_path)["max_search_threads"] == 1
    index = EdgeIndex.open(tmp_path / "out")
    query = IndexQuery("song 7", direction("song 7 by band"), 3)
    await index.query([query])
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    for _ in range(50):
        await index.query([query])
    assert resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before < 50
    await index.close()


def engine_config(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "out" / "shard" / "edge_config.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.asyncio
async def test_embedding_in_this_process_gives_what_the_model_repository_gives() -> None:
    """Whatever the batch and the order, a passage has one embedding: that of the graph and tokenizer that Triton serves."""
    repository = Settings().model_repository
    if not (repository / "embedder_encoder" / "1" / "model.onnx").exists():
        pytest.skip("no embedder weights in the model repository")
    passages = [*(f"song {'na ' * (n % 40)}by band {n}" for n in range(150)), "", "[SEP] x", "早春賦"]
    encoder = PassageEncoder(repository, threads=2)
    found = await encoder.embed(passages)
    encoder.close()
    backend = LocalBackend(repository)
    for row, passage in enumerate(passages[::7] + passages[-3:]):
        one = await backend.infer("embedder", {"QUERY": text_tensor([[passage]])}, ["EMBEDDING"], 1.0)
        at = row * 7 if row < len(passages[::7]) else len(passages) - 3 + row - len(passages[::7])
        np.testing.assert_allclose(found[at], one["EMBEDDING"][0], atol=2e-3)


PEAK = """
import asyncio, sys
from pathlib import Path
import numpy as np
from app.index.build import build_index
from training.evaluation.cases import demo_items
from training.evaluation.scale_catalogue import write_catalogue

async def embed(passages):
    return np.random.default_rng(1).standard_normal((len(passages), 32)).astype(np.float32)

folder, rows = Path(sys.argv[1]), int(sys.argv[2])
write_catalogue(folder / "songs.csv", demo_items(), rows, 1)
asyncio.run(build_index(folder / "songs.csv", folder / "out", embed, 32, "random", lambda done, total: None))
status = Path("/proc/self/status").read_text()
print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
"""


def peak_mib(folder: Path, rows: int) -> float:
    folder.mkdir()
    made = subprocess.run(
        [sys.executable, "-I", "-c", PEAK, str(folder), str(rows)], capture_output=True, text=True, check=True
    )
    return int(made.stdout) / 1024


def test_memory_grows_by_what_the_engine_holds_of_a_row_and_no_more(tmp_path: Path) -> None:
    """Rows, passages and vectors pass through, they do not gather: the engine alone keeps some of a piece under way."""
    small, large = peak_mib(tmp_path / "small", 3_000), peak_mib(tmp_path / "large", 18_000)
    assert large - small < 15_000 * 7.5 / 1024  # KiB a row; 5.1 measured


def test_the_command_line_builds_updates_and_removes(tmp_path: Path) -> None:
    """What --help teaches must work, end to end, with the weights that ship."""
    if not (ROOT / "triton/models/embedder_encoder/1/model.onnx").exists():
        pytest.skip("no embedder weights in the model repository")
    songs, more, ids = tmp_path / "songs.csv", tmp_path / "more.csv", tmp_path / "ids.txt"
    songs.write_text("\n".join((HEADER, *OLD)))
    more.write_text(f"{HEADER}\nd,Clocks,Coldplay,60\n")
    ids.write_text("a\n\nnobody\n")
    out = ["--out", str(tmp_path / "out")]
    run = CliRunner().invoke
    for arguments in (
        ["index", str(songs), *out, "--dimensions", "64", "--quantise", "int8"],
        ["index", str(more), *out, "--mode", "update"],
        ["unindex", str(ids), *out],
    ):
        result = run(cli, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
    assert set(asyncio.run(held(tmp_path))) == {"b", "c", "d"}
    manifest = Manifest.read(tmp_path / "out")
    assert (manifest.dimensions, manifest.quantisation, manifest.items) == (64, "int8", 3)
    with pytest.raises(InvalidInput, match="--quantise none needs --mode replace"):
        run(cli, ["index", str(more), *out, "--mode", "update", "--quantise", "none"], catch_exceptions=False)
