"""(f) The embedded Triton on the repository's models, without the gateway: what `perf_analyzer` drives.

``python -m loadtest.peers.triton_alone --http PORT --grpc PORT --metrics PORT``; ends on Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import signal

from app.settings import Settings
from app.stack import embedded
from app.triton_server import Ports


async def main(ports: Ports) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    triton = embedded(Settings().model_repository, canary=None, ports=ports)
    await triton.start()
    try:
        await stopped.wait()
    finally:
        await triton.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("http", "grpc", "metrics"):
        parser.add_argument(f"--{name}", type=int, required=True)
    asyncio.run(main(Ports(**vars(parser.parse_args()))))
