"""The embedded Triton server: started, watched, started again when it fails, and gone without a trace afterwards."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
import shlex
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.errors import DeadlineExceeded, SetupError
from app.triton_health import Canary, TritonHealth
from app.triton_install import TritonInstall, find_install, locked_control
from app.triton_launcher import LOW, owner_prefix, sweep_orphans, sweep_scratch, sweep_shared_memory
from app.triton_process import ServerCommand, ServerProcess

_log = logging.getLogger("searchbar.triton.supervisor")

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Ports:
    """The server's three TCP ports on 127.0.0.1."""

    http: int
    grpc: int
    metrics: int

    @classmethod
    def free(cls) -> Ports:
        """Three ports that nothing listens on now.

        Below the kernel's ephemeral range: while the server restarts no outgoing connection can take its port, and a client
        that reconnects to it cannot be given that port as its own end and so connect to itself.
        """
        low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        candidates = range(10240, low) if low > 12000 else range(10240, 65536)
        chosen: list[int] = []
        for port in random.sample(candidates, k=1000):
            if _is_free(port):
                chosen.append(port)
                if len(chosen) == 3:
                    return cls(*chosen)
        raise SetupError("found no three free TCP ports on 127.0.0.1: name some yourself")

    def require_free(self) -> None:
        """Raises SetupError when something listens on one of them."""
        for name, port in (("HTTP", self.http), ("gRPC", self.grpc), ("metrics", self.metrics)):
            if not _is_free(port):
                raise SetupError(
                    f"port {port} (Triton {name}) on {HOST} is in use: stop what listens there "
                    f"(`ss -ltnp 'sport = :{port}'` shows it) or choose another port"
                )


@dataclass(frozen=True, slots=True)
class Watch:
    """When the supervisor takes the server for broken and how fast it starts it again.

    Attributes:
        tick_s: how often the backend stubs are looked at.
        canary_every_s, canary_timeout_s: pause between canaries, and the time one may take.
        canary_again_s: pause after one that failed.
        canary_failures: this many in a row mean that the server is broken. One that is late while every model goes on finishing
            inferences is no failure: a restart does not make a slow server faster.
        backoff_s: waits before the first, second, … restart; the last one repeats.
        forgive_after_s: a server healthy for this long starts again from the first wait.
        grace_s: how long an orderly stop may take.
    """

    tick_s: float = 0.5
    canary_every_s: float = 1.0
    canary_timeout_s: float = 1.0
    canary_again_s: float = 0.2
    canary_failures: int = 2
    backoff_s: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0)
    forgive_after_s: float = 60.0
    grace_s: float = 8.0


class EmbeddedTriton:
    """Runs the `tritonserver` of the nvidia-pytriton wheel as a supervised child.

    The ports stay the same across restarts, so that a pooled gRPC channel finds the new server by itself.

    Args:
        repository: Triton model repository.
        models: load these alone, with the models they are composed of; all of the repository when empty.
        config_name: chooses ``configs/<name>.pbtxt`` in the models that have it.
        canary: one real inference; None watches the process, its backend stubs and its health endpoint alone.
        backends: directory of python-based backends to serve with beside the wheel's own.
        work_dir: where scratch directories are made; the system's temporary directory when not given. No spaces or quotes in
            its path: Triton hands it to a shell.
        ports: free ones when not given.
        start_timeout_s: how long the models may take to be ready.
        extra_args: further arguments of the server, e.g. ``--disable-auto-complete-config``.
        control: its control APIs answer anybody on this machine, for tuning; by default nobody (`locked_control`).
        priority: beside this process: `triton_launcher.IDLE` or `LOW`.
        watch: when it is taken for broken.

    Attributes:
        restarts: how many times it was started again since `start`.
        healthy: models ready and the last canary passed.
        on_restart: called when a server that was started again is ready; must not raise.
    """

    def __init__(
        self,
        repository: Path,
        *,
        models: Sequence[str] = (),
        config_name: str = "cpu",
        canary: Canary | None,
        backends: Path | None = None,
        work_dir: Path | None = None,
        ports: Ports | None = None,
        start_timeout_s: float = 60,
        extra_args: Sequence[str] = (),
        control: bool = False,
        priority: str = LOW,
        watch: Watch = Watch(),
    ) -> None:
        self._repository = repository.absolute()
        self._models = tuple(models)
        self._config_name = config_name
        self._canary = canary
        self._backends = backends.absolute() if backends else None
        self._scratch_root = (work_dir or Path(tempfile.gettempdir())).absolute()
        self._ports = ports or Ports.free()
        self._start_timeout_s = start_timeout_s
        self._extra_args = (*extra_args, *(() if control else locked_control()))
        self._priority = priority
        self._watch = watch
        self._prefix = f"{owner_prefix(os.getpid())}{secrets.token_hex(4)}_"
        self._process: ServerProcess | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._health: TritonHealth | None = None
        self._suspicion: asyncio.Future[str] | None = None
        self.restarts = 0
        self.healthy = False
        self.on_restart: Callable[[], None] = lambda: None

    @property
    def grpc_url(self) -> str:
        """Address of the gRPC endpoint, ``127.0.0.1:PORT``."""
        return f"{HOST}:{self._ports.grpc}"

    @property
    def http_url(self) -> str:
        """Base URL of the HTTP endpoint."""
        return f"http://{HOST}:{self._ports.http}"

    @property
    def metrics_url(self) -> str:
        """URL of the server's Prometheus metrics."""
        return f"http://{HOST}:{self._ports.metrics}/metrics"

    @property
    def pid(self) -> int | None:
        """Process id of `tritonserver`; None while there is none."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Starts the server; returns when every model is ready and the canary has passed.

        Raises:
            SetupError: something is missing or broken; the message names the cure. Nothing is left running.
        """
        if self._supervisor is not None:
            return
        install = find_install()
        models = self._expected_models()
        self._ports.require_free()
        if shlex.quote(str(self._scratch_root)) != str(self._scratch_root):
            raise SetupError(
                f"Triton's python backend cannot work in {self._scratch_root}: set TMPDIR to a path without blanks or quotes"
            )
        self._scratch_root.mkdir(parents=True, exist_ok=True)
        sweep_orphans(self._scratch_root)
        try:
            command = self._prepare(install)
            self._health = TritonHealth(self.http_url, models, self._canary)
            process = await self._boot(command, self._health)
        except BaseException:
            await self.stop()
            raise
        self._supervisor = asyncio.create_task(self._supervise(command, self._health, process), name="triton-supervisor")

    async def stop(self) -> None:
        """Stops the server and removes everything it has left. Idempotent.

        A broken server is killed: with a dead stub Triton would wait for it until the grace is over.
        """
        was_healthy, self.healthy = self.healthy, False
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait({self._supervisor})
            self._supervisor = None
        if self._health is not None:
            await self._health.close()  # first: Triton waits for open HTTP connections before it stops
            self._health = None
        try:
            if self._process is not None:
                await (self._process.stop() if was_healthy else self._process.kill())
                self._process = None
        finally:
            sweep_shared_memory(self._prefix)
            sweep_scratch(self._prefix, self._scratch_root)

    def suspect(self, complaint: str) -> None:
        """Start it again because of what it answered: that a stub of one of its models is not healthy.

        A canary need not notice: where a model has two instances, the other one may answer it.
        """
        if self._suspicion is not None and not self._suspicion.done():
            self._suspicion.set_result(complaint)

    def _expected_models(self) -> tuple[str, ...]:
        """Names of the models that must turn ready."""
        if not self._repository.is_dir():
            raise SetupError(f"there is no model repository at {self._repository}: check the path")
        found = {path.name for path in self._repository.iterdir() if path.is_dir() and not path.name.startswith(".")}
        if not found:
            raise SetupError(f"the model repository {self._repository} is empty: it needs one directory for each model")
        if missing := sorted(set(self._models) - found):
            raise SetupError(
                f"the model repository {self._repository} has no model {', '.join(missing)}, but {', '.join(sorted(found))}"
            )
        return self._models or tuple(sorted(found))

    def _prepare(self, install: TritonInstall) -> ServerCommand:
        """Makes the scratch directory: Triton's view of the backends and of the model repository."""
        scratch = Path(tempfile.mkdtemp(prefix=self._prefix, dir=self._scratch_root))
        install.link_backends(scratch / "backends", self._backends)
        # The python backend puts the models' path into a shell command without quoting it: a checkout below "My Projects"
        # works through a link only.
        (scratch / "models").symlink_to(self._repository, target_is_directory=True)
        return ServerCommand(
            arguments=(str(install.binary), *self._arguments(scratch)),
            env=install.environment(os.environ),
            cwd=scratch,
            prefix=self._prefix,
            scratch_root=self._scratch_root,
            grace_s=self._watch.grace_s,
            priority=self._priority,
        )

    async def _boot(self, command: ServerCommand, health: TritonHealth) -> ServerProcess:
        self._process = process = await ServerProcess.spawn(command)
        await health.wait_ready(process, self._start_timeout_s)
        process.remember_stubs()
        self.healthy = True
        _log.info("Triton is ready (pid %d): gRPC %s, HTTP %s", process.pid, self.grpc_url, self.http_url)
        return process

    def _arguments(self, scratch: Path) -> list[str]:
        control = ["--model-control-mode=none"]
        if self._models:
            control = ["--model-control-mode=explicit", *(f"--load-model={name}" for name in self._models)]
        return [
            f"--model-repository={scratch / 'models'}",
            f"--backend-directory={scratch / 'backends'}",
            f"--backend-config=python,shm-region-prefix-name={self._prefix}",
            *control,
            f"--model-config-name={self._config_name}",
            *(f"--http-address={HOST}", f"--http-port={self._ports.http}"),
            *(f"--grpc-address={HOST}", f"--grpc-port={self._ports.grpc}"),
            *(f"--metrics-address={HOST}", f"--metrics-port={self._ports.metrics}"),
            "--exit-on-error=true",
            "--strict-readiness=true",
            f"--exit-timeout-secs={max(1, int(self._watch.grace_s) - 3)}",  # Triton then exits by itself, before it is killed
            "--metrics-config=summary_latencies=true",
            *self._extra_args,
        ]

    async def _supervise(self, command: ServerCommand, health: TritonHealth, process: ServerProcess) -> None:
        waits_used = 0
        while True:
            healthy_since = time.monotonic()
            reason = await self._until_broken(process, health)
            if time.monotonic() - healthy_since >= self._watch.forgive_after_s:
                waits_used = 0
            while reason:
                self.healthy = False
                self.restarts += 1
                wait_s = self._watch.backoff_s[min(waits_used, len(self._watch.backoff_s) - 1)]
                waits_used += 1
                _log.error("restarting Triton (restart %d, in %.1f s): %s", self.restarts, wait_s, reason)
                try:
                    if self._process is not None:
                        await self._process.kill()
                        self._process = None
                    await asyncio.sleep(wait_s)
                    process, reason = await self._boot(command, health), ""
                except Exception as exc:  # no failure to start, of any kind, may end the supervision
                    reason = f"it did not start: {exc}"
            self.on_restart()

    async def _until_broken(self, process: ServerProcess, health: TritonHealth) -> str:
        """Watches the server; returns what is wrong with it."""
        self._suspicion = asyncio.get_running_loop().create_future()
        watchers: list[asyncio.Future[str]] = [
            asyncio.create_task(self._until_dead(process)),
            asyncio.create_task(self._until_canary_fails(health)),
            self._suspicion,
        ]
        try:
            await asyncio.wait(watchers, return_when=asyncio.FIRST_COMPLETED)
            return next(task.result() for task in watchers if task.done())
        finally:
            for task in watchers:
                task.cancel()
            await asyncio.gather(*watchers, return_exceptions=True)

    async def _until_dead(self, process: ServerProcess) -> str:
        while not process.ended.done():
            if (stub := process.dead_stub()) is not None:
                return f"backend stub (pid {stub}) has died"
            await asyncio.wait({process.ended}, timeout=self._watch.tick_s)
        return process.ended.result()

    async def _until_canary_fails(self, health: TritonHealth) -> str:
        failures = 0
        watch = self._watch
        while True:
            await asyncio.sleep(watch.canary_again_s if failures else watch.canary_every_s)
            try:
                await health.probe(watch.canary_timeout_s)
            except Exception as exc:  # whatever a canary raises is what it died of
                if await self._is_slow(exc, health):
                    _log.warning("the canary is late, but every model works: %r", exc)
                    failures = min(failures, 1)
                    continue
                failures += 1
                self.healthy = False
                _log.warning("canary failed (%d of %d): %r", failures, watch.canary_failures, exc)
                if failures >= watch.canary_failures:
                    return f"{failures} canaries in a row failed, the last with {exc!r}"
            else:
                failures, self.healthy = 0, True

    async def _is_slow(self, failure: Exception, health: TritonHealth) -> bool:
        """Whether the canary that failed was only late, behind work that goes on."""
        if not isinstance(failure, asyncio.TimeoutError | DeadlineExceeded):
            return False
        try:
            return await health.progressed(self._watch.canary_timeout_s)
        except Exception as exc:  # then it does not even count any more
            _log.warning("Triton does not say what its models have done: %r", exc)
            return False


def _is_free(port: int) -> bool:
    """True when a server could listen on that port of 127.0.0.1; connections that linger from an earlier one do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
