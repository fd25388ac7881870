"""Triton behind a SageMaker endpoint: KServe v2's binary protocol through `invoke_endpoint`.

The endpoint has one production variant for each model, and a request names its variant: Triton's front end serves one model by
`/invocations` (docs/adr/0014-sagemaker.md).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from app.errors import DeadlineExceeded, ModelFailed, ModelUnavailable, Overloaded, SearchbarError, SetupError
from app.inference import Array
from app.sagemaker.protocol import BINARY, pack, read
from app.sagemaker.session import session

SCHEME = "sagemaker://"
_ADDRESS = re.compile(SCHEME + r"([A-Za-z0-9](?:-*[A-Za-z0-9]){0,62})(?:\?region=([a-z0-9-]+))?")
_THROTTLED = {"ThrottlingException", "Throttling", "TooManyRequestsException"}


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of this process the endpoint may take up.

    Attributes:
        threads: calls in flight; boto3 is synchronous, so each takes a thread and a connection.
        connect_timeout_s, read_timeout_s: how long a silent endpoint may hold a thread whose caller has given up.
    """

    threads: int = 16
    connect_timeout_s: float = 1.0
    read_timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Address:
    """``sagemaker://ENDPOINT[?region=REGION]``; without a region that of the AWS configuration."""

    endpoint: str
    region: str | None

    @classmethod
    def parse(cls, url: str) -> Address:
        """Raises SetupError when `url` is no such address."""
        found = _ADDRESS.fullmatch(url)
        if found is None:
            raise SetupError(
                f"{url!r} is not an address of the form sagemaker://ENDPOINT or sagemaker://ENDPOINT?region=REGION"
            )
        return cls(found[1], found[2])


class SageMakerBackend:
    """One endpoint; fulfils `inference.InferenceBackend`.

    Failed calls are not repeated but for a connection that had gone stale: a second try would come after the deadline, and
    under load it would add to it.

    Raises:
        SetupError: the address is wrong, boto3 or credentials are missing.
    """

    def __init__(self, url: str, limits: Limits = Limits()) -> None:
        address = Address.parse(url)
        found = session(address.region)
        from botocore.config import Config

        self.url = url
        self._endpoint = address.endpoint
        config = Config(
            connect_timeout=limits.connect_timeout_s,
            read_timeout=limits.read_timeout_s,
            max_pool_connections=limits.threads,
            retries={"total_max_attempts": 1, "mode": "standard"},
            tcp_keepalive=True,
        )
        self._client = found.client("sagemaker-runtime", config=config)
        self._threads = ThreadPoolExecutor(limits.threads, thread_name_prefix="sagemaker")
        self._idle = limits.threads

    async def infer(
        self, model: str, inputs: Mapping[str, Array], outputs: Sequence[str], timeout_s: float
    ) -> dict[str, Array]:
        """See `InferenceBackend.infer`. Overloaded as well when every thread is taken; numeric tensors come back read-only."""
        if self._idle == 0:
            raise Overloaded(f"{model}: every connection to {self._endpoint} is busy")
        header, tensors = pack(inputs, outputs)
        self._idle -= 1
        call = self._threads.submit(self._invoke, model, header, tensors)
        work = asyncio.wrap_future(call)
        work.add_done_callback(self._release)
        done, _ = await asyncio.wait({work}, timeout=timeout_s)
        if not done:
            raise DeadlineExceeded(f"{model}: no answer in time")
        return work.result()

    def _release(self, work: asyncio.Future[dict[str, Array]]) -> None:
        self._idle += 1
        if not work.cancelled():
            work.exception()  # looked at: its caller may have gone

    def _invoke(self, model: str, header: bytes, tensors: bytes) -> dict[str, Array]:
        from botocore.exceptions import BotoCoreError, ClientError, ConnectionClosedError

        request = {
            "EndpointName": self._endpoint,
            "TargetVariant": model,
            "ContentType": f"{BINARY}{len(header)}",
            "Accept": "*/*",
            "Body": header + tensors,
        }
        try:
            try:
                answer = self._client.invoke_endpoint(**request)
            except ConnectionClosedError:
                answer = self._client.invoke_endpoint(**request)
            return read(answer["ContentType"], answer["Body"].read())
        except (BotoCoreError, ClientError) as exc:
            raise translate(exc, model) from exc

    async def ready(self, model: str) -> bool:
        """Whether calls can be made at all: a SageMaker endpoint tells nothing more of a model but by an inference."""
        return self._idle > 0

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._client.close()


def translate(exc: Exception, model: str) -> SearchbarError:
    """The one table from the endpoint's errors to the service's."""
    from botocore.exceptions import BotoCoreError, ReadTimeoutError

    if isinstance(exc, ReadTimeoutError):
        return DeadlineExceeded(f"{model}: no answer in time")
    if isinstance(exc, BotoCoreError):
        return ModelUnavailable(f"{model}: unavailable ({exc})")
    answer: dict[str, Any] = getattr(exc, "response", {})
    code = answer.get("Error", {}).get("Code", "")
    if code in _THROTTLED:
        return Overloaded(f"{model}: SageMaker throttles")
    if code != "ModelError":  # no such endpoint or variant, no permission, no capacity
        return ModelUnavailable(f"{model}: unavailable ({exc})")
    said = str(answer.get("OriginalMessage") or exc)
    if "Exceeds maximum queue size" in said:
        return Overloaded(f"{model}: queue full")
    if "Request timeout expired" in said:
        return DeadlineExceeded(f"{model}: no answer in time")
    # Triton's front end answers 400 whatever went wrong; 5xx comes from SageMaker, when the container does not answer.
    if answer.get("OriginalStatusCode", 400) >= 500 or "Stub process" in said or "is not ready" in said:
        return ModelUnavailable(f"{model}: unavailable ({said})")
    return ModelFailed(f"{model}: {said}")
