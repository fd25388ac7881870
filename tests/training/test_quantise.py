"""int8 with a scale a token or with fixed scales: near fp32, and a row's result is the row's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from app.inference import Array
from tests.training.conftest import Train

WIDTH = 64  # of write_graphs.py
Graphs = dict[str, onnxruntime.InferenceSession]


@pytest.fixture(scope="module")
def graphs(run: Train, tmp_path_factory: pytest.TempPathFactory) -> Graphs:
    """The small graph in fp32, in int8, and in int8 with fixed scales."""
    folder = tmp_path_factory.mktemp("graphs")
    done = run("python", "-P", Path(__file__).parent / "write_graphs.py", folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "int8.onnx").stat().st_size < 0.6 * (folder / "fp32.onnx").stat().st_size
    return {kind: onnxruntime.InferenceSession(str(folder / f"{kind}.onnx")) for kind in ("fp32", "int8", "fixed")}


def answers(session: onnxruntime.InferenceSession, rows: Array, tokens: Array) -> dict[str, Array]:
    other = np.ones((len(tokens), WIDTH, tokens.shape[1]), np.float32)
    feeds = {"rows": rows, "tokens": tokens, "other": other, "ids": np.arange(50)}
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def draw(rng: np.random.Generator, *shape: int) -> Array:
    """Activations whose rows differ in size a thousandfold, one of them zero."""
    found: Array = (rng.normal(size=(*shape, WIDTH)) * 10 ** rng.uniform(-1.5, 1.5, (*shape, 1))).astype(np.float32)
    found[(0,) * len(shape)] = 0
    return found


def test_int8_is_near_fp32(graphs: Graphs) -> None:
    """Each row is off by less than 2 % of its own size, small rows beside large ones too; a zero row gives the bias alone."""
    rng = np.random.default_rng(1)
    rows, tokens = draw(rng, 200), draw(rng, 6, 9)
    exact, ours = (answers(graphs[kind], rows, tokens) for kind in ("fp32", "int8"))
    bias = exact["linear"][0]
    for name, base in (("looked_up", 0), ("linear", bias), ("product", 0)):
        size = np.linalg.norm(exact[name] - base, axis=-1)
        off = np.linalg.norm(exact[name] - ours[name], axis=-1)
        assert (off <= 0.02 * size + 1e-4).all(), name
        assert off.max() > 0, f"{name} was not quantised"
    np.testing.assert_array_equal(exact["attention"], ours["attention"])


def test_a_row_is_its_own(graphs: Graphs) -> None:
    """A row alone, among others, and beside padding of any size gives the same numbers."""
    rng = np.random.default_rng(2)
    rows, tokens = draw(rng, 40), draw(rng, 5, 8)
    together = answers(graphs["int8"], rows, tokens)
    for i in range(1, 5):
        alone = answers(graphs["int8"], rows[i : i + 1], tokens[i : i + 1, :3])
        np.testing.assert_allclose(alone["linear"][0], together["linear"][i], rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(alone["product"][0], together["product"][i, :3], rtol=1e-6, atol=1e-6)
    louder = rows.copy()
    louder[1:] *= 1e6
    np.testing.assert_array_equal(answers(graphs["int8"], louder, tokens)["linear"][0], together["linear"][0])


def alike(rng: np.random.Generator, *shape: int) -> Array:
    """Activations like those that write_graphs.py chose the scales by."""
    found: Array = rng.normal(size=(*shape, WIDTH)).astype(np.float32)
    return found


def test_fixed_scales_are_near_fp32(graphs: Graphs) -> None:
    """What resembles the samples is off by 2 % of its size; what lies outside their range is cut, not wrapped round."""
    rng = np.random.default_rng(3)
    rows, tokens = alike(rng, 200), np.maximum(alike(rng, 6, 9), np.float32(-0.17))
    exact, ours = (answers(graphs[kind], rows, tokens) for kind in ("fp32", "fixed"))
    bias = answers(graphs["fp32"], 0 * rows, tokens)["linear"][0]
    for name, base in (("linear", bias), ("product", 0)):
        share = np.linalg.norm(exact[name] - ours[name], axis=-1) / np.linalg.norm(exact[name] - base, axis=-1)
        assert share.mean() < 0.02 and share.max() < 0.05, (name, share)
        assert share.max() > 0, f"{name} was not quantised"
    far = answers(graphs["fixed"], 100 * rows, tokens)["linear"] - bias
    near = answers(graphs["fixed"], rows, tokens)["linear"] - bias
    assert (np.sum(far * near, axis=-1) > 0).all() and np.linalg.norm(far) < 10 * np.linalg.norm(near)


def test_a_row_is_its_own_with_fixed_scales(graphs: Graphs) -> None:
    """A row's numbers are the same to the last bit beside rows a million times as large."""
    rows, tokens = alike(np.random.default_rng(4), 40), alike(np.random.default_rng(5), 5, 8)
    louder = rows.copy()
    louder[1:] *= 1e6
    together = answers(graphs["fixed"], rows, tokens)
    np.testing.assert_array_equal(answers(graphs["fixed"], louder, tokens)["linear"][0], together["linear"][0])
    np.testing.assert_array_equal(answers(graphs["fixed"], rows[:1], tokens[2:3])["product"][0], together["product"][2])


def test_fixed_scales_need_no_pass_over_the_activation(graphs: Graphs, run: Train) -> None:
    """The graph with fixed scales has no reduction left, and one operator for product, scale and bias."""
    folder = Path(str(graphs["fixed"]._model_path)).parent
    count = "import onnx, sys; print(*sorted(node.op_type for node in onnx.load(sys.argv[1]).graph.node))"
    done = run("python", "-P", "-c", count, folder / "fixed.onnx")
    assert "ReduceMax" not in done.stdout and done.stdout.count("MatMulIntegerToFloat") == 2, done.stdout + done.stderr
    assert done.stdout.split().count("Add") == 0
