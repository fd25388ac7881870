"""Whether the Triton server does its work: each model's own readiness and a canary inference, not its word alone."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import orjson

from app.deadline import within
from app.errors import DeadlineExceeded, ModelUnavailable, Overloaded, SetupError
from app.triton_http import Answer, Lost, TritonHttp
from app.triton_process import ServerProcess

Canary = Callable[[str], Awaitable[None]]
"""Runs one real inference on each top-level model at the HTTP address given to it; raises when an answer is not right."""

OK = 200
_POLL_S = 0.05
_START_ANSWER_S = 2.0  # an answer takes longer only while the server starts
_STRAGGLER_S = 2.0  # Triton opens its ports after it has loaded the models: one that is not ready by then never will be
_FIRST_CANARY_S, _FIRST_CANARY_TRIES = 10.0, 3  # a model's first inference may be slow


class TritonHealth:
    """Asks one server how it is.

    Args:
        url: of its HTTP endpoint; handed to the canary too.
        models: names of the models that must be ready.
        canary: None asks the readiness endpoints alone.
    """

    def __init__(self, url: str, models: Sequence[str], canary: Canary | None) -> None:
        self._http = TritonHttp(url)
        self._url = url
        self._models = models
        self._canary = canary
        self._finished: dict[str, int] = {}

    async def close(self) -> None:
        """Closes its connections. Idempotent."""
        await self._http.close()

    async def wait_ready(self, process: ServerProcess, timeout_s: float) -> None:
        """Returns when every model is ready and the canary has passed.

        Raises:
            SetupError: the server ended, a model did not turn ready or the canary fails; quotes what Triton said.
        """
        deadline = time.monotonic() + timeout_s
        while (waiting := await self._not_ready()) != []:
            if process.ended.done():
                raise SetupError(f"{process.ended.result()} while it started:\n{process.complaint()}")
            if waiting is not None:
                deadline = min(deadline, time.monotonic() + _STRAGGLER_S)
            if time.monotonic() >= deadline:
                what = "does not answer" if waiting is None else f"is up but not ready: {', '.join(waiting)}"
                raise SetupError(f"Triton {what}:\n{process.complaint()}")
            await asyncio.wait({process.ended}, timeout=_POLL_S)
        for attempt in range(1, _FIRST_CANARY_TRIES + 1):
            try:
                return await self.probe(_FIRST_CANARY_S)
            except Exception as exc:
                if attempt == _FIRST_CANARY_TRIES or process.ended.done():
                    raise SetupError(
                        f"every Triton model is ready but the canary inference fails: {exc!r}\n{process.complaint()}"
                    ) from exc
                await asyncio.sleep(0.2)

    async def _not_ready(self) -> list[str] | None:
        """The models that are not ready; None while the server does not answer."""
        try:
            server = await self._get("/v2/health/ready", _START_ANSWER_S)
            models = [(name, await self._get(f"/v2/models/{name}/ready", _START_ANSWER_S)) for name in self._models]
        except (OSError, Lost, DeadlineExceeded):
            return None
        waiting = [name for name, answer in models if answer.status != OK]
        return waiting or ([] if server.status == OK else ["the server as a whole"])

    async def _get(self, path: str, timeout_s: float) -> Answer:
        return await within(self._http.get(path), timeout_s, f"{path}: no answer within {timeout_s:g} s")

    async def _ok(self, path: str, timeout_s: float) -> bytes:
        try:
            answer = await self._get(path, timeout_s)
        except DeadlineExceeded as exc:  # no canary that waits behind other people's work
            raise ModelUnavailable(str(exc)) from exc
        if answer.status != OK:
            raise ModelUnavailable(f"{path}: status {answer.status}")
        return answer.body

    async def probe(self, timeout_s: float) -> None:
        """Raises whatever shows that the server does not do its work.

        `Overloaded` does not: a server that turns work away lives, and restarting it would turn overload into an outage.
        """
        await self._ok("/v2/health/ready", timeout_s)
        if self._canary is not None:
            with suppress(Overloaded):
                await asyncio.wait_for(self._canary(self._url), timeout_s)
        self._finished.clear()

    async def progressed(self, timeout_s: float) -> bool:
        """Whether every model has finished an inference since this was last asked, which was after the last good probe.

        It tells a server that is slow from one that hangs: a canary may be late behind other people's work.
        """
        finished: Counter[str] = Counter()
        for model in orjson.loads(await self._ok("/v2/models/stats", timeout_s))["model_stats"]:
            finished[model["name"]] += model["inference_stats"]["success"]["count"]
        before, self._finished = self._finished, dict(finished)
        return all(name in before and finished[name] > before[name] for name in self._models)
