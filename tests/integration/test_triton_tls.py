"""TLS to a Triton that runs elsewhere: the real server with a certificate, and what is said when the two do not agree."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
import trustme

from app.errors import SetupError
from app.settings import Settings
from app.stack import inference
from app.triton_server import EmbeddedTriton

from .test_triton_server import write_model

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]


@dataclass(frozen=True)
class Files:
    """PEM files: the authority that all trust, one that nobody does, and what each has signed."""

    folder: Path

    def settings(self, url: str, **names: str) -> Settings:
        files: dict[str, Any] = {name: self.folder / f"{file}.pem" for name, file in names.items()}
        return Settings(triton=url, **files)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("tls")
    for authority in ("ca", "stranger"):
        ca = trustme.CA()
        ca.cert_pem.write_to_path(str(folder / f"{authority}.pem"))
        for role, name in (("server", "127.0.0.1"), ("gateway", "gateway.example")):
            issued = ca.issue_cert(name)
            issued.private_key_pem.write_to_path(str(folder / f"{authority}-{role}-key.pem"))
            issued.cert_chain_pems[0].write_to_path(str(folder / f"{authority}-{role}.pem"))
    return Files(folder)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models"))


@asynccontextmanager
async def serving(repository: Path, *arguments: str) -> AsyncIterator[str]:
    """The gRPC address of a server started with these arguments."""
    triton = EmbeddedTriton(repository, canary=None, extra_args=arguments)
    await triton.start()
    try:
        yield triton.grpc_url
    finally:
        await triton.stop()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def urls(repository: Path, files: Files) -> AsyncIterator[dict[str, str]]:
    """Three servers: one that speaks no TLS, one that does, one that asks its callers for a certificate too."""
    pair = [f"--grpc-server-{what}={files.folder / name}" for what, name in PAIR.items()]
    mutual = ["--grpc-use-ssl-mutual=true", f"--grpc-root-cert={files.folder / 'ca.pem'}"]
    async with (
        serving(repository) as plain,
        serving(repository, "--grpc-use-ssl=true", *pair) as tls,
        serving(repository, *mutual, *pair) as both,
    ):
        yield {"plain": plain, "tls": tls, "mutual": both}


PAIR = {"cert": "ca-server.pem", "key": "ca-server-key.pem"}
OURS = {"triton_cert": "ca-gateway", "triton_key": "ca-gateway-key"}
THEIRS = {"triton_cert": "stranger-gateway", "triton_key": "stranger-gateway-key"}


@pytest.mark.parametrize(
    ("server", "names"),
    [
        pytest.param("tls", {"triton_ca": "ca"}, id="the authority alone"),
        pytest.param("mutual", {"triton_ca": "ca", **OURS}, id="a certificate of our own"),
        pytest.param("tls", {"triton_ca": "ca", **THEIRS}, id="a certificate nobody asks for"),
    ],
)
async def test_an_inference_goes_through_tls(urls: dict[str, str], files: Files, server: str, names: dict[str, str]) -> None:
    """With the right files the server is asked as any other."""
    async with inference(files.settings(urls[server], **names)) as (backend, _):
        answer = await backend.infer("identity", {"IN": np.array([1, 2], np.float32)}, ["OUT"], 10.0)
        assert answer["OUT"].tolist() == [1.0, 2.0]
        assert await backend.ready("identity")


def at_localhost(url: str) -> str:
    return url.replace("127.0.0.1", "localhost")


@pytest.mark.parametrize(
    ("server", "names", "address", "said"),
    [
        pytest.param("tls", {"triton_ca": "stranger"}, str, "none in SEARCHBAR_TRITON_CA has signed", id="wrong authority"),
        pytest.param("tls", {"triton_ca": "ca"}, at_localhost, "certificate of another name", id="another name"),
        pytest.param("tls", {}, str, "if it speaks TLS, set SEARCHBAR_TRITON_CA", id="plain to TLS"),
        pytest.param("plain", {"triton_ca": "ca"}, str, "speaks no TLS: unset SEARCHBAR_TRITON_CA", id="TLS to plain"),
        pytest.param("mutual", {"triton_ca": "ca"}, str, "SEARCHBAR_TRITON_CERT must be", id="no certificate"),
        pytest.param("mutual", {"triton_ca": "ca", **THEIRS}, str, "SEARCHBAR_TRITON_CERT must be", id="a stranger's"),
    ],
)
async def test_a_disagreement_names_the_setting(
    urls: dict[str, str], files: Files, server: str, names: dict[str, str], address: Callable[[str], str], said: str
) -> None:
    """The start ends with the setting that is wrong, and with gRPC's own words."""
    with pytest.raises(SetupError, match=said) as caught:
        async with inference(files.settings(address(urls[server]), **names)):
            pass
    assert "connect" in str(caught.value)


async def test_a_server_that_is_away_is_no_disagreement(files: Files) -> None:
    """Nobody listening is said by the first call, as ever."""
    async with inference(files.settings("127.0.0.1:9", triton_ca="ca")) as (backend, _):
        assert not await backend.ready("identity")
