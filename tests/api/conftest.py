"""The application over fakes: real routes, speller, embedder and search; only Triton and the index stand in."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from app.api import create_app
from app.completion import Completions
from app.domain import Item
from app.fakes import FakeIndex, FakeTriton
from app.gateway import Gateway
from app.lexicon import Lexicon
from app.reranker import FEATURES
from app.settings import Settings

CATALOGUE = (
    Item("billie", "Billie Jean", "track", "Michael Jackson", "Thriller", 1982, ("pop", "funk"), ("dance",), 98.0),
    Item("teen", "Smells Like Teen Spirit", "track", "Nirvana", "Nevermind", 1991, ("grunge", "rock"), ("angry",), 97.0),
    Item("halo", "Halo", "track", "Beyoncé", "I Am... Sasha Fierce", 2008, ("pop",), ("romantic",), 90.0),
    Item("jackson", "Michael Jackson", "artist", "Michael Jackson", genres=("pop",), popularity=99.0),
    Item("thriller", "Thriller", "album", "Michael Jackson", "Thriller", 1982, ("pop",), (), 95.0),
    Item("daily", "The Daily", "podcast", "The New York Times", year=2017, genres=("news",), popularity=80.0),
)  # fmt: skip
CORRECTIONS = {
    "bilie jean micheal jackson": "billie jean michael jackson",
    "smels like teen sprit": "smells like teen spirit",
}


@pytest.fixture
def triton() -> FakeTriton:
    return FakeTriton(CORRECTIONS)


@pytest.fixture
def index() -> FakeIndex:
    return FakeIndex(CATALOGUE)


@pytest.fixture
def reranker(tmp_path: Path) -> Path:
    """Weights made by hand: the log-probability decides, a distant reading pays a little."""
    weights = [[0.0] for _ in FEATURES]
    weights[FEATURES.index("logprob")] = [10.0]
    weights[FEATURES.index("distance")] = [-0.5]
    path = tmp_path / "reranker.json"
    path.write_text(json.dumps({"features": FEATURES, "layers": [[weights, [0.0]]], "temperature": 1.0}), encoding="utf-8")
    return path


@pytest.fixture
def settings(reranker: Path) -> Settings:
    """Deadlines no slow machine misses; tests of lateness set their own."""
    return Settings(reranker=reranker, deadline_s=10.0, model_timeout_s=20.0, replace_threshold=0.75, suggest_threshold=0.4)


@pytest.fixture
async def gateway(settings: Settings, triton: FakeTriton, index: FakeIndex) -> AsyncIterator[Gateway]:
    built = Gateway.build(settings, triton, index, Lexicon(index.rows), Completions(index.rows))
    yield built
    await built.close()


@pytest.fixture
async def client(settings: Settings, gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(gateway, max_body_bytes=settings.max_body_bytes), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://searchbar") as opened:
        yield opened
