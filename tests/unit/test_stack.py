"""An index and the embedder that asks it belong together."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import SetupError
from app.index.manifest import Manifest
from app.settings import Settings
from app.stack import EMBEDDER_WEIGHTS, EXTERNAL, check_weights, fingerprint


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    weights = tmp_path / EMBEDDER_WEIGHTS
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"first weights")
    return Settings(model_repository=tmp_path, triton=None)


def manifest(embedder: str) -> Manifest:
    return Manifest(dimensions=256, embedder=embedder, items=1, created="2026-11-23T00:00:00+00:00", source="songs.csv")


def test_an_index_of_other_weights_is_refused_with_its_cure(settings: Settings) -> None:
    """New weights of the same length would give wrong hits without a word; the message names the command and the source."""
    built = manifest(fingerprint(settings))
    check_weights(settings, built)
    (settings.model_repository / EMBEDDER_WEIGHTS).write_bytes(b"second weights")
    with pytest.raises(SetupError, match=r"searchbar index .*songs\.csv"):
        check_weights(settings, built)


def test_weights_that_cannot_be_seen_are_not_compared(settings: Settings) -> None:
    """An external Triton's weights are its own business; the length of its vectors is checked all the same."""
    check_weights(settings, manifest(EXTERNAL))
    check_weights(settings.model_copy(update={"triton": "elsewhere:8001"}), manifest("0123456789abcdef"))
