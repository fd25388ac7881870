"""The model repository as SageMaker's Triton container wants it: model.tar.gz with the models' directories at its root.

The container unpacks it to /opt/ml/model, which is its model repository
(https://github.com/triton-inference-server/server/blob/main/docker/sagemaker/serve). Packed twice, the same repository gives
the same bytes, whose digest names what is deployed.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import IO, cast

from app.errors import SetupError

BESIDE = {"speller": ("speller_encoder", "speller_decoder"), "embedder": ()}
"""Top-level model → models that it calls and does not name in its configuration: Triton has to be told to load them."""

VENDORED = "tokenizers"  # the one package that the models import and the container lacks
_WEIGHTS = {".onnx", ".plan"}
_ENGINES = {"onnxruntime": "model.onnx", "tensorrt": "model.plan", "tensorrt_plan": "model.plan"}
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Archive:
    """A packed repository.

    Attributes:
        config: which of the models' configurations is in it, e.g. ``gpu``.
        digest: SHA-256 of the file, hexadecimal.
        size: of the file, in bytes.
    """

    path: Path
    config: str
    digest: str
    size: int

    @classmethod
    def read(cls, path: Path) -> Archive:
        """What `pack` has written.

        Raises:
            SetupError: it is missing or no such archive.
        """
        try:
            with tarfile.open(path, "r:gz") as tar:
                configs = {Path(name).stem for name in tar.getnames() if Path(name).parent.name == "configs"}
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except (OSError, tarfile.TarError, EOFError) as exc:
            raise SetupError(f"{path} cannot be read ({exc}): `searchbar sagemaker package` makes it") from exc
        if len(configs) != 1:
            raise SetupError(f"{path} holds no packed model repository: `searchbar sagemaker package` makes one")
        return cls(path, configs.pop(), digest, path.stat().st_size)


def pack(repository: Path, config: str, out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> Archive:
    """Write the archive of `repository` in which models run by ``configs/<config>.pbtxt``.

    Args:
        repository: Triton model repository.
        config: ``gpu`` needs the TensorRT plans in the repository.
        out: the archive; one that is there is replaced when the new one is whole.
        progress: told the bytes packed so far and in all.

    Raises:
        SetupError: a model, its configuration or its weights are missing, or the installed `tokenizers` does not run in the
            container.
    """
    found = dict(sorted(contents(repository, config)))
    total = sum(path.stat().st_size for path in found.values() if path.is_file())
    part = out.with_name(out.name + ".part")
    out.parent.mkdir(parents=True, exist_ok=True)
    done = 0

    def advance(size: int) -> None:
        nonlocal done
        done += size
        progress(done, total)

    try:
        with (
            part.open("wb") as file,
            gzip.GzipFile("", "wb", 6, file, mtime=0) as zipped,
            tarfile.open(fileobj=cast(IO[bytes], zipped), mode="w", format=tarfile.USTAR_FORMAT) as tar,
        ):
            for name, path in found.items():
                _add(tar, name, path, advance)
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    return Archive.read(out)


def contents(repository: Path, config: str) -> Iterator[tuple[str, Path]]:
    """What goes into the archive: names in it, and the files and directories that they come from."""
    missing = sorted(name for model in BESIDE.items() for name in (model[0], *model[1]) if not (repository / name).is_dir())
    if missing:
        raise SetupError(f"the model repository {repository} lacks {', '.join(missing)}: check SEARCHBAR_MODEL_REPOSITORY")
    for model in repository.iterdir():
        if model.is_dir() and not model.name.startswith("."):
            yield from _model(model, config)


def _model(model: Path, config: str) -> Iterator[tuple[str, Path]]:
    chosen, plain = model / "configs" / f"{config}.pbtxt", model / "config.pbtxt"
    path = chosen if chosen.is_file() else plain
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in model.glob("configs/*.pbtxt")))
        raise SetupError(f"{model.name} has no configuration {config!r}, but {known or 'none'}")
    engine = weights(path.read_text(encoding="utf-8"))
    if engine and not (model / "1" / engine).is_file():
        raise SetupError(
            f"{model.name} has no 1/{engine}, which {path.parent.name}/{path.name} wants: TensorRT plans are built on the "
            "GPU that they are for (docs/deploy.md); `--config cpu` packs the ONNX weights"
        )
    yield model.name, model
    yield f"{model.name}/{path.relative_to(model)}", path
    if path is chosen:
        yield f"{model.name}/configs", model / "configs"
    if re.search(r'^platform: "ensemble"', path.read_text(encoding="utf-8"), re.MULTILINE):
        yield f"{model.name}/1", model / "1"  # what is in it is for another configuration
        return
    for inner in (model / "1", *(model / "1").rglob("*")):
        relative = inner.relative_to(model / "1")
        hidden = any(part.startswith(".") or part == "__pycache__" for part in relative.parts)
        if not hidden and (inner.suffix not in _WEIGHTS or inner.name == engine):
            yield str(Path(model.name, "1") / relative), inner
    code = "\n".join(file.read_text(encoding="utf-8") for file in (model / "1").glob("*.py"))
    if re.search(rf"^(?:from|import) {VENDORED}\b", code, re.MULTILINE):
        # Triton puts the version's directory on the model's sys.path: what lies in it can be imported.
        yield from ((f"{model.name}/1/{name}", file) for name, file in vendored())


def weights(config: str) -> str | None:
    """The file that a model with this configuration loads its weights from; None when it has none."""
    named = re.search(r'^default_model_filename:\s*"([^"]+)"', config, re.MULTILINE)
    engine = re.search(r'^(?:backend|platform):\s*"(\w+)"', config, re.MULTILINE)
    return _ENGINES.get(engine[1]) and (named[1] if named else _ENGINES[engine[1]]) if engine else None


def vendored() -> Iterator[tuple[str, Path]]:
    """The installed `tokenizers`, which any later Python on Linux x86-64 can import: names to put it under, and its files."""
    try:
        package = distribution(VENDORED)
    except PackageNotFoundError as exc:
        raise SetupError(f"{VENDORED} is not installed: run `pip install {VENDORED}`") from exc
    if not re.search(r"^Tag: cp\d+-abi3-manylinux\w*_x86_64$", package.read_text("WHEEL") or "", re.MULTILINE):
        raise SetupError(
            f"the installed {VENDORED} is not a wheel for Linux x86-64 with Python's stable ABI, which the container needs: "
            "package on such a machine"
        )
    folders: dict[str, Path] = {}
    for file in package.files or ():
        path = Path(str(package.locate_file(file)))
        if file.parts[0] == VENDORED and file.suffix in (".py", ".so") and path.is_file():
            yield str(file), path
            for up in range(1, len(file.parts)):
                folders["/".join(file.parts[:up])] = path.parents[len(file.parts) - up - 1]
    yield from folders.items()


def _add(tar: tarfile.TarFile, name: str, path: Path, advance: Callable[[int], None]) -> None:
    """Add a file or directory without whatever differs between two machines: owner, time, permissions."""
    info = tarfile.TarInfo(name)
    if path.is_dir():
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(info)
        return
    info.size, info.mode = path.stat().st_size, 0o644
    with path.open("rb") as file:
        tar.addfile(info, cast(IO[bytes], _Counted(file, advance)))


class _Counted:
    """A file that tells how much of it was read."""

    def __init__(self, file: IO[bytes], advance: Callable[[int], None]) -> None:
        self._file, self._advance = file, advance

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(min(size, _CHUNK) if size > 0 else size)
        self._advance(len(data))
        return data
