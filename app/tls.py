"""Certificates and keys from files: this server's own, and those that a Triton elsewhere is spoken to with."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from app.errors import SetupError
from app.settings import Settings


@dataclass(frozen=True, slots=True)
class ClientTls:
    """What a TLS client needs, PEM.

    Attributes:
        ca: certificates that the server's is checked against.
        cert, key: shown to a server that asks for them (mutual TLS); None for one that does not.
    """

    ca: bytes
    cert: bytes | None = None
    key: bytes | None = None


def triton_tls(settings: Settings) -> ClientTls | None:
    """What the Triton of the settings is spoken to with; None for no TLS.

    Raises:
        SetupError: a file cannot be read or holds something else, or one setting lacks another.
    """
    ca, cert, key = settings.triton_ca, settings.triton_cert, settings.triton_key
    if (cert is None) != (key is None):
        raise SetupError("SEARCHBAR_TRITON_CERT and SEARCHBAR_TRITON_KEY belong together: set both or neither")
    if ca is None:
        if cert is not None:
            raise SetupError("SEARCHBAR_TRITON_CERT is of no use without TLS: set SEARCHBAR_TRITON_CA too")
        return None
    if settings.triton is None or "://" in settings.triton.removeprefix("dns:///"):
        raise SetupError("SEARCHBAR_TRITON_CA is for a Triton reached by gRPC: set SEARCHBAR_TRITON to its HOST:PORT")
    authorities = pem("SEARCHBAR_TRITON_CA", ca)
    try:
        ssl.create_default_context(cafile=ca)
    except ssl.SSLError as exc:
        raise SetupError(f"SEARCHBAR_TRITON_CA: {ca} holds no certificates that can be read ({exc})") from exc
    if cert is None or key is None:
        return ClientTls(authorities)
    check_pair(cert, key, "SEARCHBAR_TRITON_CERT", "SEARCHBAR_TRITON_KEY")
    return ClientTls(authorities, cert.read_bytes(), key.read_bytes())


def check_server_tls(settings: Settings) -> None:
    """Raises SetupError when a file cannot be read, the key is not the certificate's, or one setting lacks the other."""
    cert, key = settings.tls_cert, settings.tls_key
    if (cert is None) != (key is None):
        raise SetupError("SEARCHBAR_TLS_CERT and SEARCHBAR_TLS_KEY belong together: set both or neither")
    if cert is not None and key is not None:
        check_pair(cert, key, "SEARCHBAR_TLS_CERT", "SEARCHBAR_TLS_KEY")


def check_pair(cert: Path, key: Path, cert_name: str, key_name: str) -> None:
    """Raises SetupError when `key` is not that of `cert`, under the settings' names."""
    pem(cert_name, cert)
    pem(key_name, key)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=lambda: "")  # never asks the terminal
    except (ssl.SSLError, ValueError) as exc:
        raise SetupError(f"{key_name}: {key} is not the (unencrypted) PEM key of the certificate in {cert} ({exc})") from exc


def pem(name: str, path: Path) -> bytes:
    """The file of the setting `name`. Raises SetupError when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as exc:
        raise SetupError(f"{name}: {path} cannot be read ({exc.strerror})") from exc
