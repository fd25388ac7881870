"""What stands between boto3 and Triton in the tests of SageMaker: its runtime's `POST /endpoints/NAME/invocations`."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

TARGET = "X-Amzn-SageMaker-Target-Variant"


class Runtime(ThreadingHTTPServer):
    """One endpoint whose variants are Triton servers of this machine.

    Enough, because Triton sees the requests that SageMaker would pass on, and boto3 the answers that it would give: the
    container's own on success, `ModelError` with the container's words when it failed.

    Args:
        name: of the endpoint.
        variants: variant → port of its server's SageMaker front end.
    """

    daemon_threads = True

    def __init__(self, name: str, variants: Mapping[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.name, self.variants = name, variants
        self.calls: list[str] = []
        self.containers = httpx.Client(timeout=60, trust_env=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Runtime:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        self.containers.close()


class Handler(BaseHTTPRequestHandler):
    """SageMaker's side of one connection."""

    protocol_version = "HTTP/1.1"
    server: Runtime

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        endpoint = re.fullmatch(r"/endpoints/([^/]+)/invocations", self.path)
        variant = self.headers[TARGET] or next(iter(self.server.variants))
        if not re.search(r"^AWS4-HMAC-SHA256 .*/sagemaker/aws4_request", self.headers["Authorization"] or ""):
            self.refuse(403, "AccessDeniedException", "no signature")
        elif endpoint is None or endpoint[1] != self.server.name:
            self.refuse(400, "ValidationError", "Endpoint was not found.")
        elif variant not in self.server.variants:
            self.refuse(400, "ValidationError", f"Variant {variant} was not found.")
        else:
            self.pass_on(variant, body)

    def pass_on(self, variant: str, body: bytes) -> None:
        self.server.calls.append(variant)
        # SageMaker strips the headers that its API does not name.
        headers = {name: self.headers[name] for name in ("Content-Type", "Accept") if name in self.headers}
        try:
            url = f"http://127.0.0.1:{self.server.variants[variant]}/invocations"
            answer = self.server.containers.post(url, content=body, headers=headers)
        except httpx.TransportError:
            self.refuse(503, "ServiceUnavailable", "the container does not answer")
            return
        if answer.is_success:
            self.answer(200, answer.content, {"Content-Type": answer.headers["Content-Type"]})
        else:
            more = {"OriginalStatusCode": answer.status_code, "OriginalMessage": answer.text}
            self.refuse(424, "ModelError", f"Received client error ({answer.status_code}) from {variant}", more)

    def refuse(self, status: int, code: str, message: str, more: Mapping[str, object] | None = None) -> None:
        said = json.dumps({"Message": message, **(more or {})}).encode()
        self.answer(status, said, {"Content-Type": "application/json", "x-amzn-ErrorType": code})

    def answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""
