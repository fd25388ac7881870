"""What a run is told, judged before PyTorch is imported, which takes seconds."""

from __future__ import annotations

import json
import os
from pathlib import Path

from app.errors import SetupError

STATE = "state.pt"  # beside the weights while a run is unfinished
SPELLER = ("speller_encoder", "speller_decoder", "speller_tokenize", "speller_detokenize")
EMBEDDER = ("embedder", "embedder_encoder", "embedder_tokenize")


def is_main() -> bool:
    """Whether this process is the one that prints and writes; true outside `torchrun`."""
    return os.environ.get("RANK", "0") == "0"


def begun(out: Path) -> bool:
    """Whether `out` holds an unfinished run, which goes on from its own weights."""
    return (out / STATE).exists()


def finished(out: Path, weights: Path | None = None) -> str | None:
    """What the run that ended in `out` came to, None where none has; its run.json lies in `weights`, or `out` itself."""
    file = (weights or out) / "run.json"
    facts = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"finished": False}
    if begun(out) or not facts.get("finished", True):
        return None
    return f"{facts.get('steps', 0):,} steps, {facts.get('examples', 0):,} examples"


def require_repository(repository: Path, models: tuple[str, ...]) -> None:
    """Raises SetupError when `repository` is no model repository of this project: `models` are not all there."""
    if missing := [model for model in models if not (repository / model).is_dir()]:
        raise SetupError(f"{repository} is no model repository: {', '.join(missing)} missing (copy triton/models there first)")


def require_speller(source: str) -> None:
    """Raises SetupError when `source` is the path of a directory that is not there; a name on the hub may be anything else."""
    if not Path(source).is_dir() and (source.startswith((".", "/", "~")) or source.count("/") > 1):
        raise SetupError(f"--init {source}: no such directory")


def require_embedder(checkpoint: Path | str) -> None:
    """Raises SetupError when `checkpoint` is no directory that a sentence-transformers model was saved to."""
    if not Path(checkpoint).is_dir():
        raise SetupError(f"{checkpoint} is no directory: save the model there first (`SentenceTransformer(NAME).save(DIR)`)")
    if not (Path(checkpoint) / "modules.json").exists():  # the library would put a pooling of its own on whatever is there
        raise SetupError(f"{checkpoint} is no sentence-transformers model (modules.json is missing)")
