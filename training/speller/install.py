"""A trained speller put into a Triton model repository: graphs, tokenizer, and the width that the configurations name."""

from __future__ import annotations

import json
import re
from pathlib import Path

from app.errors import SetupError
from training.speller.export import install as export

MODELS = ("speller_encoder", "speller_decoder", "speller_tokenize", "speller_detokenize")
_HIDDEN = re.compile(r'("hidden".*?dims: \[[^\]]*?)\d+ \]')  # the last dimension is d_model


def require_repository(repository: Path) -> None:
    """Raises SetupError when `repository` is no model repository of this project."""
    if missing := [model for model in MODELS if not (repository / model).is_dir()]:
        raise SetupError(f"{repository} is no model repository: {', '.join(missing)} missing (copy triton/models there first)")


def install(checkpoint: Path, repository: Path) -> None:
    """Export `checkpoint` to int8 ONNX and install it into `repository`; a running server keeps what it has loaded.

    Raises:
        SetupError: `repository` is no model repository of this project.
    """
    require_repository(repository)
    export(checkpoint, repository, checkpoint / "onnx")
    width = int(json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))["d_model"])
    for model in MODELS[:2]:
        for file in (repository / model).rglob("*.pbtxt"):
            file.write_text(_HIDDEN.sub(rf"\g<1>{width} ]", file.read_text(encoding="utf-8")), encoding="utf-8")
