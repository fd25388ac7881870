"""A real run for the dashboard: Triton, the gateway, Prometheus with docker/prometheus' rules, and listeners; then render.py.

    .venv/bin/python -P docker/grafana/record.py --seconds 180 --rate 40 --out docs/dashboard.png

Everything listens on free ports of 127.0.0.1 and is gone afterwards. Needs the binary `prometheus`, which `make deploy-tools`
fetches. The load is open: a query every 1/RATE seconds whatever the answers take. It is catalogue names by popularity, seven
of ten misspelt, each typed (two completions) and searched, one in eight corrected alone and one in eight embedded alone.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import yaml

from app.triton_server import Ports

ROOT = Path(__file__).resolve().parents[2]
START_S = 180.0
LIMITS = httpx.Limits(max_connections=None, keepalive_expiry=2.0)  # given up before the server does, after 5 s
CAPTION = (
    "Drawn by docker/grafana/render.py from the dashboard's own queries, not by Grafana. A real Prometheus, {seconds:.0f} s of "
    "a real run: {rate:g} queries a second, each typed (two completions) and searched, some corrected or embedded alone. "
    "Rates are over 5 minutes."
)


@contextmanager
def running(command: list[str], log: Path, **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """A process for the block, ended by SIGTERM."""
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, **options)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until `url` answers 200; exits with the log when the process ends before."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.3)
    sys.exit(f"{url} did not answer:\n{log.read_text()[-3000:]}")


def configuration(folder: Path, gateway: int, triton: int, quick: bool) -> Path:
    """Our prometheus.yml with the ports of this run; scraped and evaluated every second when quick."""
    source = ROOT / "docker" / "prometheus"
    found = yaml.safe_load((source / "prometheus.yml").read_text(encoding="utf-8"))
    shutil.copytree(source / "rules", folder / "rules")
    ports = {"gateway": gateway, "triton": triton}
    for job in found["scrape_configs"]:
        job["static_configs"] = [{"targets": [f"127.0.0.1:{ports[job['job_name']]}"]}]
    if quick:
        found["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(found))
    return path


async def listen(url: str, seconds: float, rate: float) -> int:
    """Load for a while; the number of requests that failed."""
    with (ROOT / "app" / "data" / "demo.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if len(row["title"]) > 3]
    names, weights = [row["title"].lower() for row in rows], [float(row["popularity"] or 1) for row in rows]
    rng = random.Random(7)
    failed = 0

    async def typed(client: httpx.AsyncClient) -> None:
        nonlocal failed
        name = rng.choices(names, weights)[0]
        if rng.random() < 0.7:
            at = rng.randrange(1, len(name))
            name = name[:at] + name[at + 1 :]
        asked = [client.get("/v1/suggest", params={"q": name[:n]}) for n in (2, 4)]
        asked.append(client.post("/v1/search", json={"query": name}))
        if rng.random() < 1 / 8:
            asked.append(client.post("/v1/spellcheck", json={"query": name}))
        if rng.random() < 1 / 8:
            asked.append(client.post("/v1/embed", json={"query": name}))
        for answer in await asyncio.gather(*asked, return_exceptions=True):
            failed += isinstance(answer, BaseException) or answer.status_code != 200

    async with httpx.AsyncClient(base_url=url, timeout=30, limits=LIMITS) as client:
        loop, tasks = asyncio.get_running_loop(), set[asyncio.Task[None]]()
        began = loop.time()
        for number in range(int(seconds * rate)):
            await asyncio.sleep(max(0.0, began + number / rate - loop.time()))
            tasks.add(task := asyncio.create_task(typed(client)))
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
    return failed


def record(seconds: float, rate: float, out: Path, quick: bool, index: Path | None) -> None:
    """The run and the picture.

    Raises:
        SystemExit: something did not start.
    """
    binary = shutil.which("prometheus") or shutil.which("prometheus", path=str(Path(sys.executable).parent))
    if binary is None:
        sys.exit("prometheus is not installed: `make deploy-tools` fetches it where apt-get is")
    ports, others = Ports.free(), Ports.free()
    gateway, scraper = f"http://127.0.0.1:{others.http}", f"http://127.0.0.1:{others.grpc}"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        logs = {name: folder / f"{name}.log" for name in ("triton", "gateway", "prometheus")}
        serve = [sys.executable, "-P", str(ROOT / "docker" / "triton" / "serve.py"), "--root", str(ROOT / "triton")]
        numbers = {"--http-port": ports.http, "--grpc-port": ports.grpc, "--metrics-port": ports.metrics}
        serve += ["--address", "127.0.0.1", *(str(word) for pair in numbers.items() for word in pair)]
        triton = stack.enter_context(running(serve, logs["triton"], cwd=folder))
        wait(f"http://127.0.0.1:{ports.http}/v2/health/ready", triton, logs["triton"])
        command = [str(Path(sys.executable).parent / "searchbar"), "serve", "--port", str(others.http)]
        command += ["--triton", f"127.0.0.1:{ports.grpc}", *(("--index", str(index)) if index else ())]
        wait(f"{gateway}/readyz", stack.enter_context(running(command, logs["gateway"])), logs["gateway"])
        config = configuration(folder, others.http, ports.metrics, quick)
        scrape = [binary, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
        scrape.append(f"--web.listen-address=127.0.0.1:{others.grpc}")
        prometheus = stack.enter_context(running(scrape, logs["prometheus"]))
        wait(f"{scraper}/-/ready", prometheus, logs["prometheus"])
        print(f"requests that failed: {asyncio.run(listen(gateway, seconds, rate))}")
        draw = [sys.executable, "-P", str(Path(__file__).parent / "render.py"), "--prometheus", scraper, "--out", str(out)]
        draw += ["--minutes", str(seconds / 60), "--caption", CAPTION.format(seconds=seconds, rate=rate)]
        subprocess.run(draw, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--rate", type=float, default=40, help="queries a second")
    parser.add_argument("--index", type=Path, help="index to serve [default: the demo catalogue's]")
    parser.add_argument("--quick", action="store_true", help="scrape and evaluate every second, for a short run")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    record(given.seconds, given.rate, given.out, given.quick, given.index)


if __name__ == "__main__":
    main()
