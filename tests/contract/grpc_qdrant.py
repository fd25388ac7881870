"""Qdrant's gRPC services over the local mode: what the adapter sends and receives is encoded as for a real server.

The generated services and the message conversions are qdrant-client's own; what answers is `LocalServer`. It proves that our
requests and points survive the wire (63-bit ids, nested payloads, filters, orders, the manifest in the metadata), not that a
server of a given version understands them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from qdrant_client import grpc as wire
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc

from app.index.cluster_local import LocalServer

KEY = "secret"


class Collections(wire.CollectionsServicer):
    """Collections and aliases; `created` holds the requests to create one, whose layout the local mode ignores."""

    def __init__(self, server: LocalServer) -> None:
        self._client = server.client()
        self.created: list[Any] = []

    def Get(self, request: Any, context: Any) -> Any:
        info = self._client.get_collection(request.collection_name)
        return wire.GetCollectionInfoResponse(result=RestToGrpc.convert_collection_info(info))

    def List(self, request: Any, context: Any) -> Any:
        names = [wire.CollectionDescription(name=held.name) for held in self._client.get_collections().collections]
        return wire.ListCollectionsResponse(collections=names)

    def Create(self, request: Any, context: Any) -> Any:
        self.created.append(request)
        sparse = GrpcToRest.convert_sparse_vector_config(request.sparse_vectors_config)
        vectors = GrpcToRest.convert_vectors_config(request.vectors_config)
        self._client.create_collection(request.collection_name, vectors, sparse_vectors_config=sparse)
        return wire.CollectionOperationResponse(result=True)

    def Update(self, request: Any, context: Any) -> Any:
        metadata = GrpcToRest.convert_payload(request.metadata)
        self._client.update_collection(request.collection_name, metadata=metadata or None)
        return wire.CollectionOperationResponse(result=True)

    def Delete(self, request: Any, context: Any) -> Any:
        return wire.CollectionOperationResponse(result=self._client.delete_collection(request.collection_name))

    def UpdateAliases(self, request: Any, context: Any) -> Any:
        self._client.update_collection_aliases([GrpcToRest.convert_alias_operations(step) for step in request.actions])
        return wire.CollectionOperationResponse(result=True)

    def ListAliases(self, request: Any, context: Any) -> Any:
        held = self._client.get_aliases().aliases
        return wire.ListAliasesResponse(aliases=[RestToGrpc.convert_alias_description(alias) for alias in held])


class Points(wire.PointsServicer):
    """Points; `indexed` holds the payload fields for which an index was asked."""

    def __init__(self, server: LocalServer) -> None:
        self._client = server.client()
        self.indexed: list[str] = []

    def CreateFieldIndex(self, request: Any, context: Any) -> Any:
        self.indexed.append(request.field_name)
        return done()

    def Upsert(self, request: Any, context: Any) -> Any:
        self._client.upsert(request.collection_name, [GrpcToRest.convert_point_struct(point) for point in request.points])
        return done()

    def Delete(self, request: Any, context: Any) -> Any:
        self._client.delete(request.collection_name, GrpcToRest.convert_points_selector(request.points))
        return done()

    def Get(self, request: Any, context: Any) -> Any:
        found = self._client.retrieve(request.collection_name, [GrpcToRest.convert_point_id(one) for one in request.ids])
        return wire.GetResponse(result=[RestToGrpc.convert_retrieved_point(record) for record in found])

    def Scroll(self, request: Any, context: Any) -> Any:
        offset = GrpcToRest.convert_point_id(request.offset) if request.HasField("offset") else None
        found, following = self._client.scroll(request.collection_name, limit=request.limit, offset=offset)
        page = [RestToGrpc.convert_retrieved_point(record) for record in found]
        more = {} if following is None else {"next_page_offset": RestToGrpc.convert_extended_point_id(following)}
        return wire.ScrollResponse(result=page, **more)

    def Count(self, request: Any, context: Any) -> Any:
        return wire.CountResponse(result=wire.CountResult(count=self._client.count(request.collection_name).count))

    def QueryBatch(self, request: Any, context: Any) -> Any:
        asked = [GrpcToRest.convert_query_points(query) for query in request.query_points]
        found = self._client.query_batch_points(request.collection_name, asked)
        answers = [[RestToGrpc.convert_scored_point(point) for point in one.points] for one in found]
        return wire.QueryBatchResponse(result=[wire.BatchResult(result=points) for points in answers])


def done() -> Any:
    return wire.PointsOperationResponse(result=wire.UpdateResult(status=wire.UpdateStatus.Completed))


class Keyed(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Refuses calls without the key, as a server that was given one does."""

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        if ("api-key", KEY) in [tuple(pair) for pair in details.invocation_metadata]:
            return continuation(details)

        def refuse(request: Any, context: Any) -> None:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "must provide an API key")

        return grpc.unary_unary_rpc_method_handler(refuse)


@contextmanager
def grpc_qdrant(local: LocalServer | None = None, port: int = 0) -> Iterator[tuple[int, Collections, Points]]:
    """A server of what `local` holds on that port of loopback, or a free one; the port and the services."""
    local = local or LocalServer()
    collections, points = Collections(local), Points(local)
    server = grpc.server(ThreadPoolExecutor(4), interceptors=[Keyed()])
    wire.add_CollectionsServicer_to_server(collections, server)
    wire.add_PointsServicer_to_server(points, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield port, collections, points
    finally:
        server.stop(grace=None).wait()
