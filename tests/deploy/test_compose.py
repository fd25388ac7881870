"""docker-compose.yml and the Dockerfiles, as far as they can be judged without a Docker daemon."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from app.cli import cli
from app.index.address import ClusterAddress
from app.settings import ROOT, Settings

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILES = sorted((ROOT / "docker").glob("*/Dockerfile"))
services = pytest.mark.parametrize("service", [pytest.param(value, id=name) for name, value in SERVICES.items()])


def test_it_fits_the_compose_specification() -> None:
    """The published JSON schema, which allows no unknown key, accepts it."""
    schema = resources.files("check_jsonschema.builtin_schemas.vendor") / "compose-spec.json"
    jsonschema.validate(COMPOSE, json.loads(schema.read_text(encoding="utf-8")))


def test_docker_reads_it() -> None:
    """`docker compose config` accepts every profile; it needs the plugin but no daemon."""
    if shutil.which("docker") is None or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        pytest.skip("Docker Compose is not installed")
    for profile in ("cpu", "gpu", "load", "qdrant"):
        command = ["docker", "compose", "--profile", "cpu", "--profile", profile, "config", "--quiet"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("profile", "members"),
    [
        ("cpu", {"gateway", "triton", "prometheus", "grafana"}),
        ("gpu", {"gateway", "engines", "triton-gpu", "triton-reference", "parity", "prometheus", "grafana"}),
        ("load", {"locust"}),
        ("qdrant", {"qdrant"}),
    ],
)
def test_profiles_hold_what_they_should(profile: str, members: set[str]) -> None:
    """Each profile is a whole stack, and `load` and `qdrant` what is added to one; cpu is the default."""
    assert {name for name, service in SERVICES.items() if profile in service["profiles"]} == members
    assert "COMPOSE_PROFILES=cpu" in (ROOT / ".env").read_text().splitlines()


@services
def test_services_are_confined(service: dict[str, Any]) -> None:
    """Not root, nothing writable but volumes and tmpfs, no capabilities, limited, published on loopback alone, pinned."""
    uid, _, gid = service["user"].partition(":")
    assert int(uid) > 0 and int(gid) > 0
    assert service["read_only"] and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in service.get("ports", ()))
    assert re.search(r":v?\d+\.\d+(\.\d+)?(-py3|-unprivileged)?$", service["image"])


def test_triton_is_published_nowhere() -> None:
    """Its ports are for the other containers: who may reach them asks the models past the gateway's keys."""
    own = {name for name, service in SERVICES.items() if "searchbar-triton" in service["image"]}
    assert own == {"triton", "engines", "triton-gpu", "triton-reference"}
    assert not [name for name in own if {"ports", "network_mode"} & SERVICES[name].keys()]
    assert SERVICES["gateway"]["ports"] == ["127.0.0.1:8080:8080"]


@services
def test_services_wait_for_what_answers(service: dict[str, Any]) -> None:
    """What is waited for exists and has the health check, or the end, that the condition speaks of."""
    for name, needed in service.get("depends_on", {}).items():
        other = SERVICES[name]
        if needed["condition"] == "service_healthy":
            assert "healthcheck" in other
        if needed["condition"] == "service_completed_successfully":
            assert other["restart"] == "no"
        assert needed.get("required") is False or set(service["profiles"]) & {*other["profiles"], "load"}


@services
def test_mounts_exist(service: dict[str, Any]) -> None:
    """Bind mounts are read-only and of this repository; named volumes are declared."""
    for mount in service.get("volumes", ()):
        source, _, *mode = mount.split(":")
        if source.startswith("."):
            assert (ROOT / source).exists() and mode == ["ro"]
        else:
            assert source in COMPOSE["volumes"]


@services
def test_settings_passed_exist(service: dict[str, Any]) -> None:
    """Every SEARCHBAR_ variable is a setting of the gateway."""
    passed = {name for name in service.get("environment", {}) if name.startswith("SEARCHBAR_")}
    assert passed <= {f"SEARCHBAR_{name.upper()}" for name in Settings.model_fields}


def test_the_qdrant_server_is_the_clients() -> None:
    """Its minor version is the locked client's, and the gateway can be pointed at it."""
    locked = re.search(r"^qdrant-client==(\d+\.\d+)\.", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert locked and SERVICES["qdrant"]["image"].startswith(f"qdrant/qdrant:v{locked[1]}.")
    assert {"SEARCHBAR_INDEX", "SEARCHBAR_INDEX_API_KEY"} <= set(SERVICES["gateway"]["environment"])
    address = Settings(index="qdrant://qdrant:6333/songs").index  # type: ignore[arg-type]
    assert isinstance(address, ClusterAddress) and address.host in SERVICES
    assert {f"127.0.0.1:{p}:{p}" for p in (address.port, address.grpc_port)} == set(SERVICES["qdrant"]["ports"])


def test_plans_are_built_then_judged_then_served() -> None:
    """In the gpu profile the engines are built before a Triton starts, and the gateway waits for the parity of its answers."""
    (script,) = SERVICES["engines"]["entrypoint"]
    assert (ROOT / "triton" / Path(script).relative_to("/repository")).stat().st_mode & 0o111
    done = "service_completed_successfully"
    for name in ("triton-gpu", "triton-reference"):
        assert SERVICES[name]["depends_on"]["engines"]["condition"] == done
    assert SERVICES["gateway"]["depends_on"]["parity"] == {"condition": done, "required": False}
    command = SERVICES["parity"]["command"]
    for option, name in (("--reference", "triton-reference"), ("--candidate", "triton-gpu")):
        assert command[command.index(option) + 1] == f"{name}:8001" and name in SERVICES["parity"]["depends_on"]
    shown = CliRunner().invoke(cli, ["parity", "--help"], env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}).output
    assert command[0] == "parity" and all(word in shown for word in command if word.startswith("--"))


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)
def test_dockerfiles(dockerfile: Path) -> None:
    """What they copy exists and passes .dockerignore, bases are pinned, users are numbers, packages are wheels of the lock."""
    text = dockerfile.read_text(encoding="utf-8").replace("\\\n", " ")
    copied = [line.split()[1:] for line in text.splitlines() if line.startswith("COPY ")]
    for words in copied:
        if not any(word.startswith("--from") for word in words):
            for source in (word for word in words[:-1] if not word.startswith("--")):
                assert (ROOT / source).exists()
                assert any(source == kept or source.startswith(f"{kept}/") for kept in kept_in_context())
    stages = re.findall(r"^FROM (\S+)(?: AS (\S+))?", text, re.MULTILINE)
    assert len(stages) > 1 and all(re.search(r":\d+\.\d+", image) for image, _ in stages)
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["10001"] * (len(stages) - 1)
    installs = re.findall(r"\binstall [^&\n]*", text)
    assert installs and all("--only-binary :all:" in line and "-c constraints.txt" in line for line in installs)
    assert "apt-get" not in text


def kept_in_context() -> list[str]:
    return [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]


def test_built_services_name_a_stage() -> None:
    """Dockerfiles and targets named by the services exist."""
    for service in SERVICES.values():
        if build := service.get("build"):
            text = (ROOT / build["dockerfile"]).read_text()
            assert f" AS {build['target']}\n" in text if "target" in build else True


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the images' Python reads TOML by itself, 3.10 does not")
def test_requirements_leave_out_what_is_named() -> None:
    """The gateway's image takes the dependencies without Triton's; a name that is none is refused."""
    script = [sys.executable, "-P", str(ROOT / "docker" / "requirements.py")]
    done = subprocess.run([*script, "nvidia-pytriton", "pyarrow"], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert "uvicorn[standard]>=0.30" in lines
    assert not [line for line in lines if line.startswith(("nvidia-pytriton", "pyarrow"))]
    assert subprocess.run([*script, "pyarow"], capture_output=True).returncode == 1
