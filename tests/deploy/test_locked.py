"""Every Triton that this repository starts has its control APIs closed, each with another secret."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import yaml

from app.settings import ROOT
from app.triton_install import CONTROL, locked_control

SCRIPT = ROOT / "docker" / "triton" / "locked.sh"
LOCKS = [r"--grpc-restricted-protocol=", r"--http-restricted-api="]


def started(tmp_path: Path) -> list[str]:
    """The arguments that locked.sh gives to a `tritonserver`, here a script that prints them."""
    (tmp_path / "tritonserver").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "tritonserver").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    command = [str(SCRIPT), "--model-repository=/srv/x y", "--strict-readiness=true"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()


def test_the_script_locks_what_the_gateway_locks(tmp_path: Path) -> None:
    """The same APIs by both protocols, one secret of 256 bits, new at each start; its own arguments are handed on."""
    first, second, ours = started(tmp_path), started(tmp_path), locked_control()
    assert first[2:] == ["--model-repository=/srv/x y", "--strict-readiness=true"]
    for arguments in (first, second, ours):
        found = [
            re.fullmatch(rf"{lock}([a-z,-]+):searchbar=([0-9a-f]{{64}})", a) for lock, a in zip(LOCKS, arguments, strict=False)
        ]
        assert [set(match[1].split(",")) for match in found if match] == [set(CONTROL)] * 2
    assert len({arguments[0] for arguments in (first, second, ours)}) == 3


def test_images_and_services_start_it_so() -> None:
    """No Dockerfile and no service runs `tritonserver` by itself."""
    commands = re.findall(r"^CMD (\[.*)$", (ROOT / "docker" / "triton" / "Dockerfile").read_text(), re.MULTILINE)
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"].values()
    commands += [
        " ".join(service["command"]) for service in services if "--strict-readiness=true" in service.get("command", ())
    ]
    assert len(commands) == 3
    assert all("serve.py" in command or "./locked.sh" in command for command in commands)
