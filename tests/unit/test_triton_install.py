"""Finding the wheel's Triton server, its environment, its ports, its log lines and what dead owners left."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.errors import SetupError
from app.triton_install import TritonInstall, find_install, find_libpython
from app.triton_launcher import owner_prefix, sweep_orphans
from app.triton_process import parse_log_line
from app.triton_server import Ports

LAYOUT = ("tritonserver/bin/tritonserver", "tritonserver/backends/python/libtriton_python.so")
STUB = "tritonserver/python_backend_stubs/{}/triton_python_backend_stub"
THIS_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def make_wheel(site_packages: Path, files: tuple[str, ...]) -> Path:
    """The layout of an installed wheel, its files empty. Returns the package's directory."""
    package = site_packages / "pytriton"
    (site_packages / "nvidia_pytriton.libs").mkdir(parents=True)
    for name in files:
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).touch()
    return package


@pytest.mark.parametrize(
    ("system", "machine"),
    [
        pytest.param("darwin", "arm64", id="mac"),
        pytest.param("win32", "AMD64", id="windows"),
        pytest.param("linux", "riscv64", id="riscv"),
    ],
)
def test_unsupported_platform_says_where_to_run_it_instead(system: str, machine: str) -> None:
    """A machine without such a server gets the way out, an external Triton, in the message."""
    with pytest.raises(SetupError, match="--triton"):
        find_install(system=system, machine=machine)


@pytest.mark.parametrize(
    ("files", "cure"),
    [
        pytest.param((), "pip install --force-reinstall", id="nothing in it"),
        pytest.param(LAYOUT[:1], "libtriton_python.so is missing", id="no backend"),
        pytest.param((*LAYOUT, STUB.format("3.8"), STUB.format("3.9")), "one of 3.8, 3.9", id="no stub for this Python"),
    ],
)
def test_incomplete_wheel_names_the_cure(tmp_path: Path, files: tuple[str, ...], cure: str) -> None:
    """A wheel that lacks a piece is reported with the piece or the versions that would do."""
    with pytest.raises(SetupError, match=cure):
        find_install(package=make_wheel(tmp_path, files), system="linux", machine="x86_64")


def test_wheel_that_is_not_installed_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the wheel the message is the command that installs it."""
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "pytriton", raising=False)
    with pytest.raises(SetupError, match="pip install nvidia-pytriton"):
        find_install(system="linux", machine="aarch64")


def test_missing_libpython_names_the_cure(tmp_path: Path) -> None:
    """An interpreter without its shared library is told how to get one, and one with it finds it."""
    with pytest.raises(SetupError, match=f"apt-get install libpython{THIS_PYTHON}"):
        find_libpython([tmp_path])
    (tmp_path / f"libpython{THIS_PYTHON}.so.1.0").touch()
    assert find_libpython([tmp_path / "absent", tmp_path]).parent == tmp_path


def test_backend_directory_holds_links_to_the_backend_and_the_stub(tmp_path: Path) -> None:
    """The stub is a link, for a copy would not find the wheel's libraries; the library is a copy: Triton wants it inside."""
    package = make_wheel(tmp_path / "site", (*LAYOUT, STUB.format(THIS_PYTHON)))
    install = find_install(package=package, system="linux", machine="x86_64")
    more = tmp_path / "more"
    (more / "onnxruntime").mkdir(parents=True)
    (more / "onnxruntime" / "model.py").touch()
    install.link_backends(tmp_path / "backends", more)
    found = {path.name: path for path in (tmp_path / "backends" / "python").iterdir()}
    assert set(found) == {"libtriton_python.so", "triton_python_backend_stub"}
    assert found["triton_python_backend_stub"].is_symlink()
    assert not found["libtriton_python.so"].is_symlink()
    assert (tmp_path / "backends" / "onnxruntime" / "model.py").exists()


def test_environment_puts_this_interpreter_first_and_the_checkout_out() -> None:
    """The stub must run this interpreter's packages, and must not see the checkout's `triton/` folder as a package."""
    checkout = Path(__file__).parents[2]
    install = TritonInstall(Path("/b"), Path("/p"), Path("/s"), (Path("/wheel.libs"), Path("/py/lib")), Path("/venv/bin"))
    env = install.environment(
        {"PATH": "/usr/bin", "PYTHONPATH": f"{checkout}{os.pathsep}/mine{os.pathsep}", "LD_LIBRARY_PATH": "/cuda", "HOME": "/h"}
    )
    assert env == {
        "PATH": "/venv/bin:/usr/bin",
        "PYTHONPATH": "/mine",
        "LD_LIBRARY_PATH": "/wheel.libs:/py/lib:/cuda",
        "HOME": "/h",
    }
    assert "PYTHONPATH" not in install.environment({"PYTHONPATH": str(checkout)})


@pytest.mark.parametrize(
    ("line", "level", "message"),
    [
        pytest.param("I1123 20:07:58.849903 12540 a.cc:839] \"loaded 'x'\"", logging.INFO, "loaded 'x'", id="information"),
        pytest.param('W1123 20:07:58.849903 12540 a_b.cc:8] "slow"', logging.WARNING, "slow", id="warning"),
        pytest.param(
            'E1123 20:07:58.849903 12540 a.cc:642] "failed: \\n\\nAt:"', logging.ERROR, "failed: \\n\\nAt:", id="error"
        ),
        pytest.param("E1123 20:13:48.751198382   14889 c.cc:1060]    in use", logging.ERROR, "in use", id="gRPC's own log"),
        pytest.param("error: creating server: Internal", logging.ERROR, "error: creating server: Internal", id="exit"),
        pytest.param("I1123 20:07:58.849998 12540 server.cc:604]", logging.DEBUG, "", id="head of a table"),
        pytest.param("hello from a model", logging.INFO, "hello from a model", id="a model's print"),
        pytest.param("| identity | 1 | READY |", logging.DEBUG, "| identity | 1 | READY |", id="table"),
        pytest.param(
            'W1123 20:07:57.495232 1 p.cc:273] "unable to create stream: x"',
            logging.DEBUG,
            "unable to create stream: x",
            id="no GPU",
        ),
        pytest.param("Error: Failed to initialize NVML", logging.DEBUG, "Error: Failed to initialize NVML", id="no NVML"),
    ],
)
def test_log_lines_keep_their_level(line: str, level: int, message: str) -> None:
    """glog's letter gives the level; tables and complaints about an absent GPU are for debugging alone."""
    assert parse_log_line(line) == (level, message)


def test_free_ports_lie_below_the_ephemeral_range() -> None:
    """No outgoing connection may be given the server's port while it restarts."""
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = Ports.free()
    assert len({ports.http, ports.grpc, ports.metrics}) == 3
    assert max(ports.http, ports.grpc, ports.metrics) < low


def test_orphans_of_dead_owners_alone_are_swept(tmp_path: Path) -> None:
    """Files of a dead owner go; those of a living one, and of another PID namespace, stay."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    namespace = owner_prefix(0).split("_")[1]
    names = {
        "dead": f"{owner_prefix(ended.pid)}aa_scratch",
        "alive": f"{owner_prefix(os.getpid())}aa_scratch",
        "elsewhere": f"{owner_prefix(ended.pid).replace(namespace, '1')}aa_scratch",
    }
    for name in names.values():
        (tmp_path / name / "models").mkdir(parents=True)
        (Path("/dev/shm") / name).touch()
    try:
        sweep_orphans(tmp_path)
        left = {key for key, name in names.items() if (tmp_path / name).exists()}
        left_in_memory = {key for key, name in names.items() if (Path("/dev/shm") / name).exists()}
    finally:
        for name in names.values():
            (Path("/dev/shm") / name).unlink(missing_ok=True)
    assert left == left_in_memory == {"alive", "elsewhere"}
