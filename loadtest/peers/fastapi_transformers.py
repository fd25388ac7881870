"""(a) What a team writes by hand: FastAPI around a transformers model in fp32, a request a forward pass.

A plain function runs in Starlette's thread pool; PEER_ENDPOINT=async runs it on the event loop instead, one at a time.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import AutoModel, AutoTokenizer

CHECKPOINT = Path(__file__).resolve().parents[2] / "training" / "checkpoints" / "embedder"
MAX_TOKENS = 64

torch.set_num_threads(int(os.environ.get("PEER_THREADS", "1")))
tokenizer = AutoTokenizer.from_pretrained(CHECKPOINT)
model = AutoModel.from_pretrained(CHECKPOINT).eval()
app = FastAPI()


class Query(BaseModel):
    query: str


class Embedding(BaseModel):
    embedding: list[float]


def encode(text: str) -> Embedding:
    tokens = tokenizer(text, return_tensors="pt", truncation=True, max_length=MAX_TOKENS)
    with torch.inference_mode():
        hidden = model(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1)
        pooled = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1))
    return Embedding(embedding=pooled[0].tolist())


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
