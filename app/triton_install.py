"""The Triton server inside the `nvidia-pytriton` wheel: finding its pieces and laying them out as the binary wants them.

The wheel ships the `tritonserver` binary, the python backend and one backend stub for each Python version, but not in the
layout that `--backend-directory` expects, and it leaves out the interpreter's shared library, which the stub is linked to.
Only file names are looked at: nothing of the wheel is imported.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import secrets
import shutil
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.errors import SetupError

CONTROL = ("model-repository", "shared-memory", "trace", "logging")
_STUB = "triton_python_backend_stub"
_ELSEWHERE = "run Triton somewhere else (e.g. `docker compose up`) and pass its address with `--triton`"


@dataclass(frozen=True, slots=True)
class TritonInstall:
    """Where the pieces of a usable Triton server lie on this machine.

    Attributes:
        binary: the `tritonserver` executable.
        python_backend: directory with the python backend's own files.
        stub: the process that hosts one python model, for this interpreter's version.
        library_dirs: what `LD_LIBRARY_PATH` must hold: the wheel's libraries, the directory of libpython.
        interpreter_dir: the directory that must come first on `PATH`; the stub finds its packages through its `python3`.
    """

    binary: Path
    python_backend: Path
    stub: Path
    library_dirs: tuple[Path, ...]
    interpreter_dir: Path

    def link_backends(self, directory: Path, more: Path | None = None) -> None:
        """Fills `directory` with what `--backend-directory` expects: the python backend and the python-based ones in `more`.

        Links, not copies: the stub finds its libraries relative to where it really lies. Only the shared library is copied, for
        Triton refuses a python-based backend whose library lies outside the backend directory.
        """
        target = directory / "python"
        target.mkdir(parents=True)
        for source in (*self.python_backend.iterdir(), self.stub):
            if source.suffix == ".so":
                shutil.copy(source, target / source.name)
            elif source.name != "__pycache__":
                (target / source.name).symlink_to(source)
        for backend in sorted(more.iterdir()) if more else ():
            if (backend / "model.py").is_file():
                (directory / backend.name).symlink_to(backend, target_is_directory=True)

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """The server's environment: `base` with the search paths of this installation in front.

        The folder that holds the `app` package goes from `PYTHONPATH`: in a checkout its `triton/` folder would shadow the
        package of that name inside the python models. Empty entries, which mean the working directory, go with it.
        """
        root = Path(__file__).resolve().parents[1]
        python_path = [
            entry for entry in base.get("PYTHONPATH", "").split(os.pathsep) if entry and Path(entry).resolve() != root
        ]
        env = {name: value for name, value in base.items() if name != "PYTHONPATH"}
        if python_path:
            env["PYTHONPATH"] = os.pathsep.join(python_path)
        env["PATH"] = os.pathsep.join(filter(None, (str(self.interpreter_dir), base.get("PATH", os.defpath))))
        env["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, (*map(str, self.library_dirs), base.get("LD_LIBRARY_PATH"))))
        return env


def locked_control() -> list[str]:
    """Arguments that close the server's control APIs with a secret that is thrown away: nothing here asks for them.

    Loading models is running their code; whoever may register shared memory can write into that of the python backend; traces
    and logs are written to any file that is named. Whoever can read the process's arguments can read the secret.
    """
    lock = f"{','.join(CONTROL)}:searchbar={secrets.token_hex(32)}"
    return [f"--grpc-restricted-protocol={lock}", f"--http-restricted-api={lock}"]


def find_install(*, package: Path | None = None, system: str = sys.platform, machine: str | None = None) -> TritonInstall:
    """Looks the server up.

    Args:
        package: directory of the `pytriton` package; looked up among the installed packages when not given.
        system: `sys.platform`'s name of the operating system.
        machine: processor architecture in `platform.machine()`'s words; this machine's when not given.

    Raises:
        SetupError: the platform has no such server, the wheel is not installed or incomplete, this Python version has no stub,
            the interpreter's shared library or `bash` is missing; the message names the cure.
    """
    machine = machine or platform.machine()
    if system != "linux" or machine.lower() not in ("x86_64", "amd64", "aarch64", "arm64"):
        raise SetupError(
            f"the embedded Triton server runs on Linux x86-64 and aarch64, this machine is {system} {machine}: {_ELSEWHERE}"
        )
    package = package or _installed_package()
    server = package / "tritonserver"
    binary, backend = server / "bin" / "tritonserver", server / "backends" / "python"
    libraries = package.parent / "nvidia_pytriton.libs"
    for piece in (binary, backend / "libtriton_python.so", libraries):
        if not piece.exists():
            raise SetupError(
                f"the nvidia-pytriton wheel is incomplete, {piece} is missing: "
                "run `pip install --force-reinstall --no-deps nvidia-pytriton`"
            )
    if shutil.which("bash") is None:  # the python backend starts each stub with `bash -c`
        raise SetupError("Triton's python backend needs `bash` on the PATH: install it, e.g. `apt-get install bash`")
    return TritonInstall(
        binary=binary,
        python_backend=backend,
        stub=_stub(server / "python_backend_stubs"),
        library_dirs=(libraries, find_libpython().parent),
        interpreter_dir=Path(sys.executable).parent,
    )


def _installed_package() -> Path:
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise SetupError(
            "the embedded Triton server is not installed: run `pip install nvidia-pytriton` "
            f"(Linux with glibc 2.35 or later, e.g. Debian 12 or Ubuntu 22.04), or {_ELSEWHERE}"
        )
    return Path(next(iter(spec.submodule_search_locations)))


def _stub(stubs: Path) -> Path:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = stubs / version / _STUB
    if not stub.exists():
        known = sorted((path.parent.name for path in stubs.glob(f"*/{_STUB}")), key=lambda name: int(name.split(".")[-1]))
        raise SetupError(
            f"Triton's python backend has no stub for Python {version}: "
            f"make the virtual environment with one of {', '.join(known) or 'its versions'}"
        )
    return stub


def find_libpython(directories: Sequence[Path] | None = None) -> Path:
    """The interpreter's shared library, e.g. ``/usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0``.

    Args:
        directories: where to look; where interpreters keep it on Linux when not given.

    Raises:
        SetupError: there is none; the message says how to get it.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    name = f"libpython{version}.so.1.0"
    for directory in _library_candidates() if directories is None else directories:
        if (directory / name).exists():
            return directory / name
    raise SetupError(
        f"Triton's python backend needs {name} and {sys.executable} comes without it: on Debian and Ubuntu run "
        f"`apt-get install libpython{version}`; with pyenv rebuild by "
        f"`PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install {version}`; "
        "uv's and conda's interpreters bring it. Then make the virtual environment again."
    )


def _library_candidates() -> list[Path]:
    """`LIBDIR` comes first; relocated builds (uv, conda) name a directory of the build machine there, hence the others."""
    lib_dir, multiarch = sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("MULTIARCH") or ""
    roots = [Path(lib_dir)] if lib_dir else []
    roots += [
        Path(sys.base_prefix) / "lib",
        Path(sys.executable).resolve().parents[1] / "lib",
        Path("/usr/lib"),
        Path("/usr/lib64"),
    ]
    return [path for root in roots for path in (root, root / multiarch)]
