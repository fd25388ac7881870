"""Training as people start it: the real command, in the environment that has PyTorch."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from app.settings import ROOT, Settings
from tests.conftest import DEMO

Done = subprocess.CompletedProcess[str]
Train = Callable[..., Done]
# Nothing is fetched: a name on the hub cannot be looked up, and that too must be said well.
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "200", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def venv() -> Path:
    """The `bin` folder of the training environment."""
    found = Path(os.environ.get("SEARCHBAR_TRAIN_VENV", ROOT / ".venv-train")) / "bin"
    if not (found / "searchbar").exists():
        pytest.skip(f"no searchbar in {found}: `make train` makes that environment, SEARCHBAR_TRAIN_VENV names another")
    return found


@pytest.fixture(scope="session")
def run(venv: Path) -> Train:
    """Runs a program of the training environment to its end."""

    def run(program: str, *arguments: object) -> Done:
        command = [str(venv / program), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=280, env=ENVIRONMENT)

    return run


@pytest.fixture(scope="session")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 1 000 rows of the demo catalogue."""
    path = tmp_path_factory.mktemp("catalogue") / "thousand.csv"
    with DEMO.open(encoding="utf-8") as demo:
        path.write_text("".join(islice(demo, 1001)), encoding="utf-8")
    return path


def copy_of_the_repository(folder: Path) -> Path:
    """A model repository of one's own below `folder`, with the backends beside it."""
    original = Settings().model_repository
    shutil.copytree(original.parent, folder / "triton", ignore=shutil.ignore_patterns("__pycache__"))
    return folder / "triton" / original.name
