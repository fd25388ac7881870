"""Triton from the nvidia-pytriton wheel as a container's only process, on fixed ports: the `triton` image's command.

The gateway's embedded server is supervised; here the container's restart policy does that.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from app.triton_install import find_install, locked_control

MODELS, CONFIG = ("speller", "embedder"), "one_process"  # docs/adr/0028-one-process.md
METRICS = "summary_latencies=true"


def main() -> None:
    """Lays out the backends and becomes `tritonserver`; never returns.

    Raises:
        SetupError: a piece of the server is missing.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="directory that holds models/ and backends/")
    parser.add_argument("--address", default="0.0.0.0")
    parser.add_argument("--http-port", type=int, default=8000)
    parser.add_argument("--grpc-port", type=int, default=8001)
    parser.add_argument("--metrics-port", type=int, default=8002)
    given = parser.parse_args()
    install = find_install()
    backends = Path(tempfile.mkdtemp(prefix="triton_backends_"))
    install.link_backends(backends, given.root / "backends")
    arguments = [
        str(install.binary),
        f"--model-repository={given.root / 'models'}",
        f"--backend-directory={backends}",
        f"--model-config-name={CONFIG}",
        "--model-control-mode=explicit",
        *(f"--load-model={model}" for model in MODELS),
        "--disable-auto-complete-config",
        *(f"--http-address={given.address}", f"--http-port={given.http_port}"),
        *(f"--grpc-address={given.address}", f"--grpc-port={given.grpc_port}"),
        *(f"--metrics-address={given.address}", f"--metrics-port={given.metrics_port}"),
        f"--metrics-config={METRICS}",
        "--strict-readiness=true",
        "--exit-on-error=true",
        "--exit-timeout-secs=8",
        *locked_control(),
    ]
    os.execve(arguments[0], arguments, install.environment(os.environ))


if __name__ == "__main__":
    main()
