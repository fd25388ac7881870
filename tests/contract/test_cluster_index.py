"""What the index on a Qdrant cluster does beyond the contract: versions under an alias, live changes, a server that is away."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from qdrant_client import grpc as wire
from qdrant_client import models
from typer.testing import CliRunner

from app.cli import cli
from app.domain import Hit, IndexQuery, Item
from app.errors import IndexUnavailable, InvalidInput
from app.index.address import ClusterAddress, Layout, index_address
from app.index.cluster import ClusterIndex
from app.index.cluster_engine import Server
from app.index.cluster_local import LocalServer
from app.index.cluster_writer import ClusterWriter
from app.index.edge import EdgeIndex
from app.index.edge_writer import EdgeWriter
from app.index.manifest import Manifest
from app.index.passage import passage_text
from app.index.readers import read_items
from app.settings import Settings
from app.stack import check_weights, open_index
from tests.conftest import DEMO
from tests.contract.grpc_qdrant import KEY, grpc_qdrant
from tests.contract.test_vector_index import CATALOGUE, DIMENSIONS, ask, embed, ids

NAME = "music"
NEARLY = 0.02  # of a score


def manifest(items: Sequence[Item]) -> Manifest:
    return Manifest(DIMENSIONS, "words", len(items), "2026-01-01T00:00:00+00:00", "contract")


def vectors(items: Sequence[Item]) -> np.ndarray:
    return np.stack([embed(passage_text(item)) for item in items])


def build(server: LocalServer, items: Sequence[Item]) -> str:
    """A new version of the index; returns its collection."""
    writer = ClusterWriter(server, NAME, DIMENSIONS, Layout())
    writer.add(items, vectors(items))
    writer.finish(manifest(items))
    writer.close()
    return writer.collection


def collections(server: LocalServer) -> set[str]:
    return {held.name for held in server.client().get_collections().collections}


def clear(hits: Sequence[Hit]) -> set[tuple[str, tuple[str, ...]]]:
    """Hits that did not get in by a tie: of items that a side finds equally good, each engine drops others at its limit."""
    return {(hit.item.id, hit.matched_by) for hit in hits if hit.score > hits[-1].score + 2 * NEARLY}


async def test_it_answers_as_the_embedded_index(tmp_path: Path) -> None:
    """On 300 items of the demo catalogue, the same hits with the same scores for names, typos, prefixes and moods."""
    items = [row for row in read_items(DEMO) if isinstance(row, Item)][::11][:300]
    server = LocalServer()
    build(server, items)
    writer = EdgeWriter(tmp_path, DIMENSIONS)
    writer.add(items, vectors(items))
    writer.finish(manifest(items))
    writer.close()
    clustered, embedded = ClusterIndex.open(server, NAME), EdgeIndex.open(tmp_path)
    texts = [item.title for item in items[::10]] + [item.title[:5] for item in items[5::30]]
    texts += [item.title[:3] + item.title[4:] + " " + item.artist for item in items[3::30]] + ["sad songs", "party pop 80s"]
    everything = 75  # four times as many candidates: equal scores are nowhere cut in two
    queries = [IndexQuery(text, vector, everything) for text in texts for vector in (embed(text), None)]
    try:
        for query, ours, theirs in zip(queries, await clustered.query(queries), await embedded.query(queries), strict=True):
            assert ids(ours)[:1] == ids(theirs)[:1], query.text
            assert [hit.score for hit in ours] == pytest.approx([hit.score for hit in theirs], abs=NEARLY)
            assert clear(ours) == clear(theirs), query.text
    finally:
        await clustered.close()
        await embedded.close()


async def test_a_rebuild_replaces_the_version_under_the_alias() -> None:
    """An open index answers from the new version at once, the old one is gone, collections of others stay."""
    server = LocalServer()
    server.client().create_collection("music-of-others", vectors_config={})
    first = build(server, CATALOGUE)
    index = ClusterIndex.open(server, NAME)
    assert await index.count() == len(CATALOGUE)
    second = build(server, CATALOGUE[:3])
    assert await index.count() == 3 and first != second
    assert collections(server) == {second, "music-of-others"}
    assert ClusterIndex.open(server, NAME).manifest.items == 3
    await index.close()


async def test_a_build_that_fails_changes_nothing() -> None:
    """Until it is finished nobody sees it; closed before, it leaves nothing; killed, it leaves what the next build removes."""
    server = LocalServer()
    first = build(server, CATALOGUE)
    index = ClusterIndex.open(server, NAME)
    writer = ClusterWriter(server, NAME, DIMENSIONS, Layout())
    writer.add(CATALOGUE[:2], vectors(CATALOGUE[:2]))
    assert await index.count() == len(CATALOGUE)
    writer.close()
    assert collections(server) == {first}
    killed = ClusterWriter(server, NAME, DIMENSIONS, Layout()).collection
    assert killed in collections(server)
    assert collections(server) - {first, killed, build(server, CATALOGUE)} == set()
    assert killed not in collections(server) and first not in collections(server)
    await index.close()


def test_items_that_did_not_arrive_stop_a_build() -> None:
    """A collection that holds fewer items than were written never becomes the index."""
    server = LocalServer()
    writer = ClusterWriter(server, NAME, DIMENSIONS, Layout())
    writer.add(CATALOGUE, vectors(CATALOGUE))
    server.client().delete(writer.collection, models.FilterSelector(filter=models.Filter(must=[])))
    with pytest.raises(IndexUnavailable, match=f"holds 0 of {len(CATALOGUE)}"):
        writer.finish(manifest(CATALOGUE))
    writer.close()
    assert collections(server) == set()


def test_what_is_no_index_is_refused_with_its_cure() -> None:
    """No collection, one that we did not make, one of another format; and a collection is never taken for an alias."""
    server = LocalServer()
    with pytest.raises(IndexUnavailable, match=NAME):
        ClusterIndex.open(server, NAME)
    client = server.client()
    client.create_collection(NAME, vectors_config={})
    with pytest.raises(IndexUnavailable, match="searchbar index"):
        ClusterIndex.open(server, NAME)
    with pytest.raises(InvalidInput, match="another name"):
        ClusterWriter(server, NAME, DIMENSIONS, Layout())
    client.update_collection(NAME, metadata={"searchbar": {"format": 0}})
    with pytest.raises(IndexUnavailable, match="format 0"):
        ClusterIndex.open(server, NAME)


async def test_items_change_while_it_answers() -> None:
    """An upsert adds and replaces by id, a delete removes; the next question sees it, unknown ids are ignored."""
    server = LocalServer()
    build(server, CATALOGUE[:5])
    index = ClusterIndex.open(server, NAME)
    renamed = replace(CATALOGUE[0], title="Bohemian Like You", artist="The Dandy Warhols")
    added = CATALOGUE[8]
    await index.upsert([renamed, added], vectors([renamed, added]))
    assert ids(await ask(index, "thundrstruck"))[0] == added.id
    assert sorted(await index.get([renamed.id, added.id, "nobody"]), key=lambda item: item.id) == [renamed, added]
    assert await index.count() == 6
    await index.delete([added.id, "nobody"])
    assert added.id not in ids(await ask(index, "thunderstruck"))
    for change in (index.upsert([], np.empty((0, DIMENSIONS), np.float32)), index.delete([])):
        await change
    assert await index.count() == 5
    await index.close()


def test_the_layout_and_the_key_reach_the_server() -> None:
    """Shards, replicas, quantisation and the graph are asked for as the URL says, payload is indexed, a wrong key is told."""
    url = "qdrant://127.0.0.1:1/m?shards=6&replicas=2&write_consistency=2&quantisation=int8&on_disk=true&hnsw_m=32&grpc_port="
    with grpc_qdrant() as (port, created, points):
        address = ClusterAddress.parse(f"{url}{port}")
        writer = ClusterWriter(Server(address, KEY, 30.0), "m", DIMENSIONS, address.layout)
        writer.close()
        with pytest.raises(IndexUnavailable, match="UNAUTHENTICATED: must provide an API key"):
            ClusterIndex.open(Server(address, "wrong", 30.0), "m")
    [asked] = created.created
    assert (asked.shard_number, asked.replication_factor, asked.write_consistency_factor) == (6, 2, 2)
    assert asked.hnsw_config.m == 32 and asked.on_disk_payload and asked.optimizers_config.indexing_threshold == 0
    assert asked.vectors_config.params_map.map["meaning"].on_disk
    assert asked.quantization_config.scalar.always_ram
    assert {vector.modifier for vector in asked.sparse_vectors_config.map.values()} == {wire.Modifier.Idf}
    assert set(points.indexed) == {"kind", "genre_keys", "title_names", "artist_names", "year", "popularity"}


def test_the_command_builds_what_the_gateway_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`searchbar index --out URL` makes an index that `SEARCHBAR_INDEX=URL` serves, embeddings, rejects and all."""
    catalogue = tmp_path / "some.csv"
    catalogue.write_text("id,title,artist\na,Hello,Adele\nb,,Nobody\nc,Halo,Beyoncé\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEARCHBAR_INDEX_API_KEY", KEY)
    with grpc_qdrant() as (port, _, _):
        url = f"qdrant://127.0.0.1/some?grpc_port={port}"
        done = CliRunner().invoke(cli, ["index", str(catalogue), "--out", url])
        assert done.exit_code == 0, done.output
        settings = Settings(index=url)  # type: ignore[arg-type]

        async def titles() -> list[str]:
            index = await open_index(settings)
            check_weights(settings, index.manifest)
            assert (index.manifest.items, index.manifest.source) == (2, "some.csv")
            found = [item.title async for item in index.items()]
            await index.close()
            return found

        assert sorted(asyncio.run(titles())) == ["Halo", "Hello"]
    assert "title" in (tmp_path / "some.rejects.jsonl").read_text()


@pytest.mark.parametrize("prefer_grpc", [pytest.param(True, id="grpc"), pytest.param(False, id="http")])
@pytest.mark.parametrize("listening", [pytest.param(False, id="nobody there"), pytest.param(True, id="never answers")])
async def test_a_server_that_is_away_is_an_unavailable_index(prefer_grpc: bool, listening: bool) -> None:
    """Start-up, queries and builds end in IndexUnavailable when their time is up, and nothing keeps a connection."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        if listening:
            taken.listen()
        port = taken.getsockname()[1]
        server = Server(ClusterAddress("127.0.0.1", NAME, port, port, prefer_grpc=prefer_grpc), "secret", 1.0)
        started = time.monotonic()
        index = ClusterIndex(server, NAME, manifest(CATALOGUE), quantised=True)
        items = index.items()
        for question in (ask(index, "hello"), index.count(), index.get(["x"]), index.delete(["x"]), items.__anext__()):
            with pytest.raises(IndexUnavailable):
                await asyncio.wait_for(question, 30)
        for start in (
            lambda: ClusterIndex.open(server, NAME),
            lambda: ClusterWriter(server, NAME, DIMENSIONS, Layout()),
        ):
            with pytest.raises(IndexUnavailable):
                start()
        await index.close()
        assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    ("url", "address"),
    [
        pytest.param("qdrant://db/music", ClusterAddress("db", "music"), id="default ports"),
        pytest.param("qdrants://db:443/music/", ClusterAddress("db", "music", 443, tls=True), id="encrypted"),
        pytest.param(
            "qdrant://db/m?grpc_port=7000&prefer_grpc=false&shards=6&replicas=2&write_consistency=2&quantisation=int8"
            "&on_disk=true&hnsw_m=32",
            ClusterAddress("db", "m", 6333, 7000, False, False, Layout(6, 2, 2, "int8", True, 32)),
            id="options",
        ),
    ],
)
def test_urls_of_collections(url: str, address: ClusterAddress) -> None:
    """A URL names server, collection and layout, in a setting as in an option; any other text is a directory."""
    assert index_address(url) == address == Settings(index=url).index  # type: ignore[arg-type]
    assert ClusterAddress.parse(str(address)) == replace(address, grpc_port=6334, prefer_grpc=True, layout=Layout())
    assert Settings(index="var/mine").index == Path("var/mine")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url",
    [
        "http://db:6333/music", "qdrant://db", "qdrant://db/a/b", "qdrant:///music", "qdrant://db:x/music", "qdrant://key@db/music",
        "qdrant://db/music?shard=2", "qdrant://db/music?shards=0", "qdrant://db/music?quantisation=int4",
        "qdrant://db/music?on_disk=yes", "qdrant://db/music?collection=x",
    ],
)  # fmt: skip
def test_urls_that_name_no_collection_are_refused(url: str) -> None:
    """A mistyped option must not build an index that is laid out otherwise than was asked."""
    with pytest.raises(InvalidInput):
        index_address(url)
