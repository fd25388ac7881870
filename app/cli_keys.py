"""`searchbar keys`: make, list and revoke API keys. A server that reads the file follows within a second."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from app.errors import InvalidInput
from app.keys import NAME, changing, new_key, read_keys

File = Annotated[Path, typer.Option(envvar="SEARCHBAR_API_KEYS", show_envvar=True, help="The key file.")]
Name = Annotated[str, typer.Argument(help="Whose key it is: letters, digits, dots, dashes, underscores.")]

keys = typer.Typer(help="Make, list and revoke the API keys of a key file (SEARCHBAR_API_KEYS).", no_args_is_help=True)
console = Console(stderr=True)


@keys.command()
def new(
    name: Name,
    file: File,
    rate: Annotated[float | None, typer.Option(help="Requests a second in the long run. [default: no limit]")] = None,
    burst: Annotated[int | None, typer.Option(help="Requests at once. [default: one second's worth]")] = None,
) -> None:
    """Make a key, print it this once and add its digest to the file, which is made where there is none.

    searchbar keys new web --rate 50 --burst 100 --file var/keys.json
    """
    if not NAME.fullmatch(name):
        raise InvalidInput(f"{name}: a name is up to 64 letters, digits, dots, dashes and underscores")
    token, key = new_key(rate, burst)
    with changing(file) as entries:
        if name in entries:
            raise InvalidInput(f"{file} has a key of the name {name}: revoke it first, or take another name")
        entries[name] = key
    console.print(f"The key of {name}, shown this once; {file} holds its digest alone:", highlight=False)
    typer.echo(token)


@keys.command("list")
def list_keys(file: File) -> None:
    """Names, rates and dates of the keys; the keys themselves are nowhere."""
    table = Table(box=None, header_style="bold")
    for column in ("name", "requests a second", "at once", "made"):
        table.add_column(column, justify="right" if column in ("requests a second", "at once") else "left")
    for name, key in read_keys(file).items():
        limits = ("any", "any") if key.rate_per_s is None else (f"{key.rate_per_s:g}", str(key.burst))
        table.add_row(name, *limits, key.created)
    Console().print(table)


@keys.command()
def revoke(name: Name, file: File) -> None:
    """Take a key out of the file: from the next second on it is refused."""
    with changing(file) as entries:
        if entries.pop(name, None) is None:
            raise InvalidInput(f"{file} has no key of the name {name}, but {', '.join(entries) or 'none at all'}")
    console.print(f"{name} is revoked", highlight=False)
