"""int8 with a scale a token: near fp32, and a row's result is the row's own."""

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
    """The small graph in fp32 and in int8."""
    folder = tmp_path_factory.mktemp("graphs")
    done = run("python", "-P", Path(__file__).parent / "write_graphs.py", folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "int8.onnx").stat().st_size < 0.6 * (folder / "fp32.onnx").stat().st_size
    return {kind: onnxruntime.InferenceSession(str(folder / f"{kind}.onnx")) for kind in ("fp32", "int8")}


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
