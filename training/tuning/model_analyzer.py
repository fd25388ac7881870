"""NVIDIA's Model Analyzer, in its own virtual environment, against a running server (remote mode)."""

from __future__ import annotations

import asyncio
import csv
import re
import shutil
import signal
from dataclasses import dataclass, replace
from pathlib import Path

from app.errors import SetupError
from training.tuning.perf_analyzer import PerfAnalyzer

COMMAND = Path("bin") / "model-analyzer"
MEASURED = "metrics-model-inference.csv"
GRACE_S = 30.0


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement of Model Analyzer's table.

    Attributes:
        model: name in the repository.
        variant: what Model Analyzer calls the setting, e.g. ``embedder_encoder_config_2``.
        setting: instance group, batch size and delay in its words.
        concurrency: requests in flight.
        throughput: inferences a second.
        p90_ms: latency that nine of ten requests keep.
    """

    model: str
    variant: str
    setting: str
    concurrency: int
    throughput: float
    p90_ms: float


FIELDS = (
    *("model_name", "model_config_path", "instance_group", "max_batch_size", "preferred_batch_size", "concurrency"),
    *("perf_throughput", "perf_latency_p90", "satisfies_constraints"),
)


@dataclass(frozen=True, slots=True)
class ModelAnalyzer:
    """Model Analyzer of one virtual environment.

    Attributes:
        command: its executable.
        perf_analyzer: what it loads the server with.
        work_dir: where it runs: the profiles name their input data relative to it.
        ports: the server's HTTP, gRPC and metrics ports on 127.0.0.1.
    """

    command: Path
    perf_analyzer: PerfAnalyzer
    work_dir: Path
    ports: tuple[int, int, int]

    async def profile(self, config: Path, out: Path, timeout_s: float) -> list[Row]:
        """Runs one profile; its tables and plots land in `out`.

        Raises:
            SetupError: it failed or took longer than `timeout_s`; quotes its last lines.
        """
        log = _fresh(out) / "log.txt"
        arguments, environment = self._arguments(config, out), self.perf_analyzer.environment()
        with log.open("wb") as sink:
            process = await asyncio.create_subprocess_exec(
                *arguments, cwd=self.work_dir, env=environment, stdout=sink, stderr=sink
            )
            try:
                status: int | None = await asyncio.wait_for(process.wait(), timeout_s)
            except asyncio.TimeoutError:
                status = None
            finally:
                await _end(process)
        if status is None:
            raise SetupError(f"Model Analyzer did not end within {timeout_s:.0f} s on {config.name}:\n{_last_lines(log)}")
        return _result(config, out, status)

    def _arguments(self, config: Path, out: Path) -> list[str]:
        http, grpc, metrics = self.ports
        return [
            *(str(self.command), "profile", "--config-file", str(config.absolute())),
            *("--triton-http-endpoint", f"127.0.0.1:{http}", "--triton-grpc-endpoint", f"127.0.0.1:{grpc}"),
            *("--triton-metrics-url", f"http://127.0.0.1:{metrics}/metrics"),
            *("--perf-analyzer-path", str(self.perf_analyzer.binary)),
            *("--model-repository", str(self.work_dir / "models")),
            *("--output-model-repository-path", str(out / "models"), "--override-output-model-repository"),
            *("--checkpoint-directory", str(out / "checkpoints"), "--export-path", str(out)),
            *("--inference-output-fields", ",".join(FIELDS), "--filename-model-inference", MEASURED),
        ]


def _fresh(out: Path) -> Path:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    return out


def _last_lines(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-8:])


def _result(config: Path, out: Path, status: int) -> list[Row]:
    table = next(out.rglob(MEASURED), None)
    if status or table is None:
        said = _last_lines(out / "log.txt")
        last = said.rpartition("\n")[2]  # of a traceback: what went wrong
        raise SetupError(f"Model Analyzer failed on {config.name} (exit status {status}): {last}\n{said}")
    rows = parse(table.read_text(encoding="utf-8"))
    return [replace(row, setting=row.setting + _batching(out / "models" / row.variant / "config.pbtxt")) for row in rows]


def _batching(config: Path) -> str:
    """What its table leaves out: preferred batch and delay of a variant that it wrote."""
    text = config.read_text(encoding="utf-8") if config.is_file() else ""
    sizes = re.findall(r"preferred_batch_size: (\d+)", text)
    delay = re.search(r"max_queue_delay_microseconds: (\d+)", text)
    told = [f", preferred {'/'.join(sizes)}"] if sizes else []
    return "".join([*told, f", delay {delay.group(1)} µs"] if delay else told)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ends Model Analyzer; asked to, it lets the load generator finish, which runs in a session of its own."""
    if process.returncode is None:
        process.send_signal(signal.SIGINT)
        try:
            await asyncio.wait_for(process.wait(), GRACE_S)
        except asyncio.TimeoutError:
            process.kill()
            await process.wait()


def parse(table: str) -> list[Row]:
    """The rows of Model Analyzer's inference table. Raises SetupError when it is no such table."""
    rows = []
    for row in csv.DictReader(table.splitlines()):
        try:
            rows.append(
                Row(
                    row["Model"],
                    row["Model Config Path"],
                    f"{row['Instance Group']}, max batch {row['Max Batch Size']}",
                    int(row["Concurrency"]),
                    float(row["Throughput (infer/sec)"]),
                    float(row["p90 Latency (ms)"]),
                )
            )
        except (KeyError, ValueError) as exc:
            raise SetupError(f"Model Analyzer's table is not as expected: {dict(row)}") from exc
    return rows
