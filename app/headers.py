"""What every answer tells browsers, after OWASP's REST Security and HTTP Headers cheat sheets.

An answer that brings a header of these itself keeps its own: the page and the viewer of the API need wider policies.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable

from starlette.types import Message

HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),  # queries are people's own, and a key does not make an answer private to every cache
]
OWN = frozenset((b"content-security-policy", b"cache-control"))
HSTS = (b"strict-transport-security", b"max-age=31536000")  # no includeSubDomains: the other names are not ours to decide on

FRAME = "base-uri 'none'; frame-ancestors 'none'"
PAGE = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    f"form-action 'self'; require-trusted-types-for 'script'; {FRAME}",
    "Cache-Control": "no-cache",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}


def lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Headers as they are sent."""
    return b"".join(name + b": " + value + b"\r\n" for name, value in headers)


def answer_headers(https: bool) -> list[tuple[bytes, bytes]]:
    """The headers of every answer; over TLS of our own, that it is to stay so."""
    return [*HEADERS, HSTS] if https else HEADERS


def complete(message: Message, headers: list[tuple[bytes, bytes]]) -> None:
    """Adds `headers` to a response's start, but for those of `OWN` that it brings."""
    brought = {name.lower() for name, _ in message["headers"]} & OWN
    missing = [header for header in headers if header[0] not in brought] if brought else headers
    message["headers"] = [*message["headers"], *missing]


def docs_policy(html: bytes) -> str:
    """Of the OpenAPI viewer: its package from the CDN, the inline script of `html` by its hash, the API of this origin."""
    inline = re.findall(rb"<script>(.*?)</script>", html, re.DOTALL)
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'" for text in inline)
    package = "https://cdn.jsdelivr.net/npm/swagger-ui-dist@5/"
    return (
        f"default-src 'none'; script-src {package} {hashes}; style-src {package} 'unsafe-inline'; "
        f"img-src 'self' data:; connect-src 'self'; form-action 'none'; {FRAME}"
    )
