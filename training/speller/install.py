"""A trained speller put into a Triton model repository: graphs, tokenizer, and the width that the configurations name."""

from __future__ import annotations

import json
import re
from pathlib import Path

from training import beforehand
from training.speller.export import install as export

_HIDDEN = re.compile(r'("hidden".*?dims: \[[^\]]*?)\d+ \]')  # the last dimension is d_model


def install(checkpoint: Path, repository: Path) -> None:
    """Export `checkpoint` to int8 ONNX and install it into `repository`; a running server keeps what it has loaded.

    Raises:
        SetupError: `repository` is no model repository of this project.
    """
    beforehand.require_repository(repository, beforehand.SPELLER)
    export(checkpoint, repository, checkpoint / "onnx")
    width = int(json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))["d_model"])
    for model in beforehand.SPELLER[:2]:
        for file in (repository / model).rglob("*.pbtxt"):
            file.write_text(_HIDDEN.sub(rf"\g<1>{width} ]", file.read_text(encoding="utf-8")), encoding="utf-8")
