"""Certificates and keys from the settings: what is wrong with them is said before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trustme

from app.errors import SetupError
from app.settings import Settings
from app.tls import check_server_tls, triton_tls


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    for name in ("one", "other"):
        issued = ca.issue_cert(name)
        issued.private_key_pem.write_to_path(str(tmp_path / f"{name}-key.pem"))
        issued.cert_chain_pems[0].write_to_path(str(tmp_path / f"{name}.pem"))
    (tmp_path / "text.pem").write_text("no certificate")
    return tmp_path


def settings(folder: Path, names: dict[str, str]) -> Settings:
    given: dict[str, Any] = {n: value if n == "triton" else folder / value for n, value in names.items()}
    return Settings(**given)


WHERE = {"triton": "triton:8001"}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        pytest.param({"triton_cert": "one.pem"}, "belong together", id="no key"),
        pytest.param({"triton_cert": "one.pem", "triton_key": "one-key.pem", **WHERE}, "set SEARCHBAR_TRITON_CA", id="no CA"),
        pytest.param({"triton_ca": "ca.pem"}, "set SEARCHBAR_TRITON to", id="embedded"),
        pytest.param({"triton_ca": "ca.pem", "triton": "sagemaker://x"}, "set SEARCHBAR_TRITON to", id="SageMaker"),
        pytest.param({"triton_ca": "none.pem", **WHERE}, r"SEARCHBAR_TRITON_CA: .*none\.pem cannot be read", id="no file"),
        pytest.param({"triton_ca": "text.pem", **WHERE}, "holds no certificates", id="no certificate"),
        pytest.param(
            {"triton_ca": "ca.pem", "triton_cert": "one.pem", "triton_key": "other-key.pem", **WHERE},
            "SEARCHBAR_TRITON_KEY: .* is not the",
            id="another's key",
        ),
    ],
)
def test_what_is_wrong_for_triton(folder: Path, names: dict[str, str], said: str) -> None:
    """The message names the setting."""
    with pytest.raises(SetupError, match=said):
        triton_tls(settings(folder, names))


def test_what_is_right_for_triton(folder: Path) -> None:
    """Nothing set is no TLS; the authority alone, or a pair too, is read as it is."""
    assert triton_tls(settings(folder, WHERE)) is None
    one = {"triton_ca": "ca.pem", "triton": "dns:///triton:8001"}
    found = triton_tls(settings(folder, one))
    assert found is not None and (found.ca, found.cert) == ((folder / "ca.pem").read_bytes(), None)
    both = triton_tls(settings(folder, {**one, "triton_cert": "one.pem", "triton_key": "one-key.pem"}))
    assert both is not None and both.key == (folder / "one-key.pem").read_bytes()


@pytest.mark.parametrize(
    ("names", "said"),
    [
        pytest.param({"tls_key": "one-key.pem"}, "belong together", id="no certificate"),
        pytest.param({"tls_cert": "one.pem", "tls_key": "none.pem"}, "SEARCHBAR_TLS_KEY: .* cannot be read", id="no file"),
        pytest.param(
            {"tls_cert": "one.pem", "tls_key": "other-key.pem"}, "SEARCHBAR_TLS_KEY: .* is not the", id="another's key"
        ),
        pytest.param({"tls_cert": "text.pem", "tls_key": "one-key.pem"}, "SEARCHBAR_TLS_KEY: .* is not the", id="no PEM"),
    ],
)
def test_what_is_wrong_for_serving(folder: Path, names: dict[str, str], said: str) -> None:
    """The server does not start with half a pair or a wrong one."""
    with pytest.raises(SetupError, match=said):
        check_server_tls(settings(folder, names))
    check_server_tls(settings(folder, {"tls_cert": "one.pem", "tls_key": "one-key.pem"}))


@pytest.mark.parametrize(
    ("given", "origins"),
    [
        pytest.param("https://music.example", ("https://music.example",), id="one"),
        pytest.param("https://a.example, http://localhost:3000 ,", ("https://a.example", "http://localhost:3000"), id="two"),
    ],
)
def test_origins_are_read(monkeypatch: pytest.MonkeyPatch, given: str, origins: tuple[str, ...]) -> None:
    """Commas and blanks between them."""
    monkeypatch.setenv("SEARCHBAR_CORS_ORIGINS", given)
    assert Settings().cors_origins == origins


@pytest.mark.parametrize(
    "given", ["*", "music.example", "https://music.example/", "https://a.example;https://b.example", "null"]
)
def test_what_is_no_origin_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    """Everybody, a bare host, a path or another separator is an error that names the setting."""
    monkeypatch.setenv("SEARCHBAR_CORS_ORIGINS", given)
    with pytest.raises(SetupError, match="SEARCHBAR_CORS_ORIGINS"):
        Settings()
