"""Origins, as browsers send them: ``https://music.example`` or ``http://localhost:3000``."""

from __future__ import annotations

import re

from app.errors import SetupError

ORIGIN = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:\d{1,5})?")


def parse_origins(given: object) -> object:
    """The origins in a text with commas between them; anything but a text is handed on.

    Raises:
        SetupError: one of them is no origin; `*` is none, for keys are handed out to somebody.
    """
    if not isinstance(given, str):
        return given
    origins = tuple(part.strip() for part in given.split(",") if part.strip())
    for origin in origins:
        if not ORIGIN.fullmatch(origin):
            raise SetupError(f"SEARCHBAR_CORS_ORIGINS: {origin} is no origin: write https://HOST or https://HOST:PORT, no path")
    return origins
