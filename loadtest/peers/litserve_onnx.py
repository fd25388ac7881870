"""(c) LitServe: its workers and its batching around the int8 graph."""

from __future__ import annotations

import argparse

import litserve
import numpy as np
from onnx_embedder import Embedder


class EmbedAPI(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.embedder = Embedder()

    def decode_request(self, request: dict) -> str:
        return request["query"]

    def batch(self, inputs: list[str]) -> list[str]:
        return list(inputs)

    def predict(self, x: list[str] | str) -> np.ndarray:
        return self.embedder(x) if isinstance(x, list) else self.embedder([x])[0]

    def unbatch(self, output: np.ndarray) -> list[np.ndarray]:
        return list(output)

    def encode_response(self, output: np.ndarray) -> dict[str, list[float]]:
        return {"embedding": output.tolist()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--api-servers", type=int, default=1)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--wait", type=float, default=0.001, help="seconds for a batch to fill")
    parser.add_argument("--fast-queue", action="store_true")
    given = parser.parse_args()
    api = EmbedAPI(max_batch_size=given.batch, batch_timeout=given.wait)
    server = litserve.LitServer(
        api, accelerator="cpu", devices=1, workers_per_device=given.workers, fast_queue=given.fast_queue
    )
    server.run(
        host="127.0.0.1",
        port=given.port,
        num_api_servers=given.api_servers,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )


if __name__ == "__main__":
    main()
