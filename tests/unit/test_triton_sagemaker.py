"""The border between gateway and SageMaker: addresses, bodies, errors, threads. Real inference: tests/integration."""

from __future__ import annotations

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from app.errors import DeadlineExceeded, ModelFailed, ModelUnavailable, Overloaded, SearchbarError, SetupError
from app.inference import text_tensor
from app.sagemaker.protocol import BINARY, read
from app.triton_sagemaker import Address, Limits, SageMakerBackend, translate


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param("sagemaker://music", Address("music", None), id="region-of-the-configuration"),
        pytest.param("sagemaker://music?region=eu-west-1", Address("music", "eu-west-1"), id="region"),
        pytest.param("sagemaker://", None, id="no-endpoint"),
        pytest.param("sagemaker://music/speller", None, id="path"),
        pytest.param("sagemaker://music?zone=a", None, id="unknown-option"),
        pytest.param("sagemaker://music?region=", None, id="empty-region"),
    ],
)
def test_addresses(url: str, expected: Address | None) -> None:
    """An address is read whole or refused."""
    if expected is not None:
        assert Address.parse(url) == expected
    else:
        with pytest.raises(SetupError, match="sagemaker://ENDPOINT"):
            Address.parse(url)


def failure(code: str, **more: object) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": code}, **more}, "InvokeEndpoint")


@pytest.mark.parametrize(
    ("exc", "expected"),
    [
        pytest.param(failure("ThrottlingException"), Overloaded, id="throttled"),
        pytest.param(
            failure("ModelError", OriginalStatusCode=400, OriginalMessage='{"error":"Exceeds maximum queue size"}'),
            Overloaded,
            id="queue-full",
        ),
        pytest.param(
            failure("ModelError", OriginalStatusCode=400, OriginalMessage='{"error":"Stub process is not healthy"}'),
            ModelUnavailable,
            id="dead-stub",
        ),
        pytest.param(failure("ModelError", OriginalStatusCode=500, OriginalMessage="no answer"), ModelUnavailable, id="5xx"),
        pytest.param(failure("ModelError", OriginalStatusCode=400, OriginalMessage="bad shape"), ModelFailed, id="bad-input"),
        pytest.param(failure("AccessDeniedException"), ModelUnavailable, id="no-permission"),
        pytest.param(failure("ServiceUnavailable"), ModelUnavailable, id="no-capacity"),
        pytest.param(ReadTimeoutError(endpoint_url="here"), DeadlineExceeded, id="late"),
    ],
)
def test_errors_of_the_endpoint(exc: Exception, expected: type[SearchbarError]) -> None:
    """Each failure gets the name that its cure depends on."""
    assert type(translate(exc, "speller")) is expected


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        pytest.param("application/json", b"{}", id="json"),
        pytest.param(f"{BINARY}x", b"{}", id="no-length"),
        pytest.param(f"{BINARY}2", b"{}", id="no-outputs"),
        pytest.param(
            f"{BINARY}89",
            b'{"outputs":[{"name":"A","datatype":"FP32","shape":[2],"parameters":{"binary_data_size":8}}]} short',
            id="cut-off",
        ),
    ],
)
def test_answers_that_are_not_tritons(content_type: str, body: bytes) -> None:
    """Anything but a whole KServe answer is the model's failure, not a crash."""
    with pytest.raises(ModelFailed, match="not Triton's"):
        read(content_type, body)


async def test_slow_endpoint_takes_no_more_than_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers that gave up leave a thread behind until the endpoint answers; with none left others are turned away at once."""
    for name, value in {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}.items():
        monkeypatch.setenv(name, value)
    backend = SageMakerBackend("sagemaker://music?region=eu-west-1", Limits(threads=2))
    answered = threading.Event()
    monkeypatch.setattr(backend, "_invoke", lambda *_: {"TEXT": text_tensor([["halo"]])} if answered.wait(60) else {})
    ask = {"QUERY": text_tensor([["halo"]])}
    try:
        for _ in range(2):
            with pytest.raises(DeadlineExceeded):
                await backend.infer("speller", ask, ["TEXT"], 0.01)
        assert not await backend.ready("speller")
        with pytest.raises(Overloaded, match="busy"):
            await backend.infer("speller", ask, ["TEXT"], 20)
        answered.set()
        await asyncio.wait_for(until_ready(backend), 60)
        assert (await backend.infer("speller", ask, ["TEXT"], 20))["TEXT"][0, 0] == b"halo"
    finally:
        answered.set()
        await backend.close()


async def until_ready(backend: SageMakerBackend) -> None:
    while not await backend.ready("speller"):  # noqa: ASYNC110  a backend has no event to wait for
        await asyncio.sleep(0.01)


def test_missing_region_and_credentials_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the AWS configuration lacks is said with its cure, before anything is called."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with pytest.raises(SetupError, match="no AWS region"):
        SageMakerBackend("sagemaker://music")
    with pytest.raises(SetupError, match="no AWS credentials"):
        SageMakerBackend("sagemaker://music?region=eu-west-1")


@pytest.mark.parametrize(
    ("broken", "expected"),
    [pytest.param(1, ModelFailed, id="stale-once"), pytest.param(2, ModelUnavailable, id="broken-again")],
)
async def test_stale_connection_is_tried_again_once(
    monkeypatch: pytest.MonkeyPatch, broken: int, expected: type[SearchbarError]
) -> None:
    """A connection that closes without an answer is forgiven once: the endpoint may have closed it while it was idle."""
    calls: list[int] = []

    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            calls.append(1)
            if len(calls) > broken:
                self.refuse()

        def refuse(self) -> None:
            said = b'{"OriginalStatusCode": 400, "OriginalMessage": "bad shape"}'
            self.send_response(424)
            for name, value in {"x-amzn-ErrorType": "ModelError", "Content-Length": str(len(said))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        for name, value in {"ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test"}.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", url)
        backend = SageMakerBackend("sagemaker://music?region=eu-west-1")
        try:
            with pytest.raises(expected):
                await backend.infer("speller", {"QUERY": text_tensor([["halo"]])}, ["TEXT"], 30)
        finally:
            await backend.close()
            server.shutdown()
    assert len(calls) == 2
