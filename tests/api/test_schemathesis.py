"""Schemathesis over the OpenAPI document: whatever it makes up from it is answered as the document says, keys off and on."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path

import schemathesis
from schemathesis.config import SchemathesisConfig

from app.access import Access
from app.api import create_app
from app.catalogue import LiveCatalogue
from app.completion import Completions
from app.fakes import FakeIndex, FakeTriton
from app.gateway import Gateway
from app.keys import KeyRing
from app.lexicon import Lexicon
from app.settings import Settings

from .conftest import CATALOGUE, CORRECTIONS

KEY, ADMIN = "sb_key", "admin"
CONFIG = {
    "seed": 5,
    "generation": {"max-examples": 40, "deterministic": True, "database": "none", "with-security-parameters": False},
    "operations": [
        {  # how many dimensions there are is known to the model, not to the document
            "include-name": "POST /v1/embeddings",
            "checks": {"positive_data_acceptance": {"expected-statuses": [200, 422]}},
        },
        {  # rows are judged one by one in the answer: any text is a bulk
            "include-name": "PUT /v1/catalogue/items",
            "checks": {"negative_data_rejection": {"enabled": False}},
        },
    ],
}


@schemathesis.serializer("application/x-ndjson")
def as_it_is(context: schemathesis.SerializationContext, value: object) -> object:
    """The text that is made up for a bulk goes out as it is."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


def document(access: Access) -> schemathesis.schemas.BaseSchema:
    """The application over fakes, live catalogue included, as Schemathesis reads it."""
    index, triton = FakeIndex(CATALOGUE), FakeTriton(CORRECTIONS)
    settings = Settings(deadline_s=10.0, model_timeout_s=20.0)
    gateway = Gateway.build(settings, triton, index, Lexicon(index.rows), Completions(index.rows))
    gateway.catalogue = LiveCatalogue(index, gateway.embedder, gateway.speller, gateway.completions)
    app = create_app(gateway, admin_key=ADMIN, access=access)
    return schemathesis.openapi.from_asgi("/openapi.json", app, config=SchemathesisConfig.from_dict(CONFIG))


def ring() -> KeyRing:
    """One key; on a clock that stands still its file is read once and may go."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "keys.json"
        path.write_text(json.dumps({"keys": {"web": {"sha256": hashlib.sha256(KEY.encode()).hexdigest()}}}))
        return KeyRing(path, clock=lambda: 0.0)


# Made when the tests are collected: each operation is to be a test of its own, and Schemathesis' fixtures need an older pytest.
OFF, ON = document(Access()), document(Access(keys=ring()))


@OFF.parametrize()
def test_keys_off(case: schemathesis.Case) -> None:
    """No 5xx; status, content type and body of every answer are in the document."""
    case.call_and_validate(headers={"Authorization": f"Bearer {ADMIN}"})


@ON.parametrize()
def test_keys_on(case: schemathesis.Case) -> None:
    """The same with a key, and without one every route that needs one says so."""
    admin = case.path.startswith("/v1/catalogue/")
    case.call_and_validate(headers={"Authorization": f"Bearer {ADMIN if admin else KEY}"})
