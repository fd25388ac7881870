"""(e) Ray Serve: `@serve.batch` around the int8 graph, in replicas behind its HTTP proxy."""

from __future__ import annotations

import argparse
import signal
import threading

import orjson
import ray
from onnx_embedder import Embedder
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

MEMORY = 80 * 1024 * 1024  # bytes of object store: nothing here goes through it


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--wait", type=float, default=0.001, help="seconds for a batch to fill")
    given = parser.parse_args()

    @serve.deployment(
        num_replicas=given.replicas,
        max_ongoing_requests=256,
        ray_actor_options={"num_cpus": 0.5},
        logging_config={"enable_access_log": False},  # a line for every request, which the other servers do not write either
    )
    class Embed:
        def __init__(self) -> None:
            self.embedder = Embedder()

        @serve.batch(max_batch_size=given.batch, batch_wait_timeout_s=given.wait)
        async def embed(self, queries: list[str]) -> list:
            return list(self.embedder(queries))

        async def __call__(self, request: Request) -> Response:
            vector = await self.embed(orjson.loads(await request.body())["query"])
            answer = orjson.dumps({"embedding": vector}, option=orjson.OPT_SERIALIZE_NUMPY)
            return Response(answer, media_type="application/json")

    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=MEMORY, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": given.port}, logging_config={"enable_access_log": False})
    serve.run(Embed.bind())
    stopped.wait()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
