"""`/v1/embeddings` by the clients that people have: the `openai` package and LangChain's OpenAIEmbeddings, over HTTP."""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import AsyncIterator

import numpy as np
import openai
import pytest
import uvicorn
from langchain_openai import OpenAIEmbeddings

from app.api import create_app
from app.errors import ModelFailed
from app.fakes import FakeTriton, unit_vector
from app.gateway import Gateway

MODEL = "searchbar-embedder"


@pytest.fixture
async def url(gateway: Gateway) -> AsyncIterator[str]:
    """The base URL that OpenAI's clients are given, of the application on a real socket."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(create_app(gateway), log_config=None, lifespan="off"))
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{sock.getsockname()[1]}/v1"
        server.should_exit = True
        await serving


@pytest.fixture
async def client(url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=url, api_key="unused", max_retries=0) as opened:
        yield opened


@pytest.mark.parametrize("encoding", [openai.omit, "float", "base64"], ids=["the client's default", "float", "base64"])
async def test_openai_gets_vectors_in_the_order_of_its_texts(client: openai.AsyncOpenAI, encoding: str) -> None:
    """A batch comes back whole and in order, whichever encoding the client asks for."""
    texts = [f"song {number}" for number in range(64)]
    answer = await client.embeddings.create(model=MODEL, input=texts, encoding_format=encoding)  # type: ignore[call-overload]
    found = [entry.embedding for entry in answer.data]
    if isinstance(found[0], str):  # asked for by name, base64 is handed on as it is
        found = [np.frombuffer(base64.b64decode(text), "<f4") for text in found]
    np.testing.assert_array_equal(np.float32(found), [unit_vector(text.encode()) for text in texts])
    assert [entry.index for entry in answer.data] == list(range(64))
    assert answer.usage.total_tokens == 128 and answer.model == MODEL


async def test_openai_gets_shorter_vectors(client: openai.AsyncOpenAI) -> None:
    """`dimensions` gives the first so many numbers, of length one again."""
    (entry,) = (await client.embeddings.create(model=MODEL, input="halo", dimensions=64)).data
    whole = unit_vector(b"halo")[:64]
    np.testing.assert_allclose(entry.embedding, whole / np.linalg.norm(whole), atol=1e-6)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        pytest.param({"input": [1, 2, 3]}, "send text", id="token ids"),
        pytest.param({"input": [[1, 2], [3]]}, "check_embedding_ctx_length=False", id="lists of token ids"),
        pytest.param({"input": "halo", "dimensions": 257}, "at most 256", id="too many dimensions"),
        pytest.param({"input": ["halo"] * 65}, "64", id="too many texts"),
        pytest.param({"input": "x" * 257}, "256", id="too long a text"),
    ],
)
async def test_what_is_refused_is_openais_own_error_and_names_the_cure(
    client: openai.AsyncOpenAI, given: dict[str, object], said: str
) -> None:
    """A 422 is the client's UnprocessableEntityError, and what it prints says what to do."""
    with pytest.raises(openai.UnprocessableEntityError, match=said):
        await client.embeddings.create(model=MODEL, **given)  # type: ignore[arg-type]


async def test_a_503_is_retried_by_the_client_and_then_raised(url: str, triton: FakeTriton) -> None:
    """The client comes back by itself: it gets its vectors when the model is back, InternalServerError when it is not."""
    triton.failures["embedder"] = ModelFailed("stub died")
    async with openai.AsyncOpenAI(base_url=url, api_key="unused", max_retries=1) as client:
        with pytest.raises(openai.InternalServerError, match="stub died"):
            await client.embeddings.create(model=MODEL, input="halo")
        tried = len(triton.calls)
        pending = asyncio.create_task(client.embeddings.create(model=MODEL, input="halo"))
        while len(triton.calls) == tried:  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.01)
        del triton.failures["embedder"]
        assert len((await pending).data) == 1
    assert tried == 2


async def test_langchain_embeds_documents_and_queries(url: str) -> None:
    """OpenAIEmbeddings, told to send text, embeds a collection larger than a request may be and a query like it."""
    embeddings = OpenAIEmbeddings(model=MODEL, base_url=url, api_key="unused", check_embedding_ctx_length=False, chunk_size=64)  # type: ignore[call-arg]
    texts = [f"song {number}" for number in range(100)]
    found = await embeddings.aembed_documents(texts)
    np.testing.assert_allclose(found, [unit_vector(text.encode()) for text in texts], atol=1e-7)
    query = await asyncio.to_thread(embeddings.embed_query, "song 7")
    np.testing.assert_allclose(query, found[7])
    await embeddings.async_client._client.close()  # LangChain leaves its connections to the garbage collector
    embeddings.client._client.close()
