"""(a) again with its model exchanged for the int8 graph on ONNX Runtime, still a request a pass.

PEER_ENDPOINT as in `fastapi_transformers.py`.
"""

from __future__ import annotations

import os

from fastapi import FastAPI
from onnx_embedder import Embedder
from pydantic import BaseModel

embedder = Embedder()
app = FastAPI()


class Query(BaseModel):
    query: str


class Embedding(BaseModel):
    embedding: list[float]


def encode(text: str) -> Embedding:
    return Embedding(embedding=embedder([text])[0].tolist())


if os.environ.get("PEER_ENDPOINT") == "async":

    @app.post("/embed")
    async def embed(body: Query) -> Embedding:
        return encode(body.query)

else:

    @app.post("/embed")
    def embed_in_pool(body: Query) -> Embedding:
        return encode(body.query)


@app.get("/readyz")
def ready() -> dict[str, bool]:
    return {"ready": True}
