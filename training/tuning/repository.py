"""A copy of the model repository to try settings on: the one that is served stays as it is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from app.stack import ONE_PROCESS
from training.tuning.settings import Setting


def config_file(repository: Path, model: str) -> Path:
    """The `.pbtxt` that the CPU serves `model` by."""
    own = (repository / model / "configs" / f"{name}.pbtxt" for name in (ONE_PROCESS, "cpu"))
    return next((path for path in own if path.is_file()), repository / model / "config.pbtxt")


def copy_repository(source: Path, target: Path) -> None:
    """Copies `source` to `target`, which is emptied first.

    Each model gets its CPU configuration as `config.pbtxt`, the one place where Model Analyzer looks. Weights are links.
    """
    shutil.rmtree(target, ignore_errors=True)
    for model in sorted(path for path in source.iterdir() if path.is_dir() and not path.name.startswith(".")):
        (target / model.name).mkdir(parents=True)
        shutil.copy(config_file(source, model.name), target / model.name / "config.pbtxt")
        shutil.copytree(model / "1", target / model.name / "1", copy_function=_link, ignore=_caches)


def write(source: Path, target: Path, settings: Mapping[str, Setting]) -> None:
    """Gives models of the copy the configuration of `source` with other settings."""
    for model, setting in settings.items():
        text = config_file(source, model).read_text(encoding="utf-8")
        (target / model / "config.pbtxt").write_text(setting.apply(text), encoding="utf-8")


def _link(source: str, target: str) -> None:
    os.symlink(os.path.abspath(source), target)


def _caches(directory: str, names: list[str]) -> list[str]:
    return [name for name in names if name == "__pycache__"]
