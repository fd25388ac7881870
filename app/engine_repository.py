"""Other graphs of the same engines: in a copy of the repository, to compare them on a CPU, or beside those of it, for GPUs."""

from __future__ import annotations

import shutil
from pathlib import Path

from app.errors import SetupError

ENGINES = ("speller_encoder", "speller_decoder", "embedder_encoder")
FOR_GPUS = "fp32.onnx"  # beside each engine's model.onnx; what triton/engines/build.sh leaves there too


def lay_out(repository: Path, graphs: Path, out: Path, suffix: str = "") -> Path:
    """Copy `repository` to `out` with `graphs`/<engine><suffix>.onnx in place of the engines' int8 graphs.

    Raises:
        SetupError: a graph is missing, or `out` is there already.
    """
    sources = exported(graphs, suffix)
    if out.exists():
        raise SetupError(f"{out} is there already: name another folder or remove it")
    shutil.copytree(
        repository, out, ignore=shutil.ignore_patterns("__pycache__", "*.plan*", "model.onnx", FOR_GPUS, ".timing*")
    )
    for engine, source in sources.items():
        shutil.copy(source, out / engine / "1" / "model.onnx")
    return out


def install(graphs: Path, repository: Path) -> None:
    """Copy `graphs`/<engine>.onnx into `repository`, for ONNX Runtime on a GPU; the int8 graphs stay.

    Raises:
        SetupError: a graph is missing.
    """
    for engine, source in exported(graphs).items():
        shutil.copy(source, repository / engine / "1" / FOR_GPUS)


def require_installed(repository: Path) -> None:
    """Raises SetupError, with the cure, when `install` has not been run on `repository`."""
    if missing := [engine for engine in ENGINES if not (repository / engine / "1" / FOR_GPUS).is_file()]:
        raise SetupError(
            f"{repository} has no graph for a GPU of {', '.join(missing)}: run `searchbar engines export` in the training "
            "environment and then `searchbar engines install`"
        )


def exported(graphs: Path, suffix: str = "") -> dict[str, Path]:
    """The exported graph of each engine. Raises SetupError when one is missing."""
    sources = {engine: graphs / f"{engine}{suffix}.onnx" for engine in ENGINES}
    if missing := [str(path) for path in sources.values() if not path.is_file()]:
        option = " --int8" if suffix else ""
        raise SetupError(f"{', '.join(missing)} missing: make them with `searchbar engines export{option}`")
    return sources
