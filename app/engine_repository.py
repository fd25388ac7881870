"""A model repository that runs other graphs of the same engines, to compare them on a CPU before any plan is built."""

from __future__ import annotations

import shutil
from pathlib import Path

from app.errors import SetupError

ENGINES = ("speller_encoder", "speller_decoder", "embedder_encoder")


def lay_out(repository: Path, graphs: Path, out: Path, suffix: str = "") -> Path:
    """Copy `repository` to `out` with `graphs`/<engine><suffix>.onnx in place of the engines' int8 graphs.

    Raises:
        SetupError: a graph is missing, or `out` is there already.
    """
    sources = {engine: graphs / f"{engine}{suffix}.onnx" for engine in ENGINES}
    if missing := [str(path) for path in sources.values() if not path.is_file()]:
        option = " --int8" if suffix else ""
        raise SetupError(f"{', '.join(missing)} missing: make them with `searchbar engines export{option}`")
    if out.exists():
        raise SetupError(f"{out} is there already: name another folder or remove it")
    shutil.copytree(
        repository, out, ignore=shutil.ignore_patterns("__pycache__", "*.plan*", "model.onnx", "fp32.onnx", ".timing*")
    )
    for engine, source in sources.items():
        shutil.copy(source, out / engine / "1" / "model.onnx")
    return out
