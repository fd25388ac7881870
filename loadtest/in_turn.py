"""Several servers under the same load, in turn: what a setting or a change to the code is worth on this machine.

A machine's speed varies by more than most changes are worth, within minutes. So all servers run at once, each is asked the same
requests before any is asked the next, every other round in reverse, and medians of the rounds are compared.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from statistics import median

from rich.console import Console

from app.errors import InvalidInput
from app.settings import ROOT
from loadtest.openloop import priority
from loadtest.overload import AFTER, BURST, OVERLOADS, Driver, Overload, Phase
from loadtest.scenarios import STATED, WARM_UP_S, Scenario
from loadtest.server import Target, started

REST_S = 2.0  # between two loads: for whoever was overloaded to come to rest
AFTER_S = 2.0
AFTER_SHARE = 1 / 3  # of the rate, just after
SOCKET = "socket"
QUIET = {"SEARCHBAR_LOG_LEVEL": "warning"}


@dataclass(frozen=True, slots=True)
class Variant:
    """A server to compare.

    Attributes:
        name: as it was written.
        tree: directory of the code, or a git revision of this one.
        settings: `SEARCHBAR_…` and what else is to be in its environment.
        by_socket: it is asked by a Unix-domain socket.
    """

    name: str
    tree: str
    settings: Mapping[str, str]
    by_socket: bool

    @classmethod
    def parse(cls, text: str) -> Variant:
        """From words: a directory or git revision (else this tree), ``socket``, settings as KEY=VALUE.

        Raises:
            InvalidInput: two trees, or a quote without an end.
        """
        try:
            words = shlex.split(text)
        except ValueError as exc:
            raise InvalidInput(f"{text!r}: {exc}") from None
        settings = dict(word.split("=", 1) for word in words if "=" in word)
        trees = [word for word in words if "=" not in word and word != SOCKET]
        if len(trees) > 1:
            raise InvalidInput(f"{text!r}: one tree a server, not {', '.join(trees)}; settings are written KEY=VALUE")
        return cls(text or ".", trees[0] if trees else str(ROOT), settings, SOCKET in words)


@dataclass(frozen=True, slots=True)
class Visit:
    """One server's part of one round.

    Attributes:
        burst: the load.
        after: a third of its rate, just after it.
    """

    burst: Phase
    after: Phase


@contextmanager
def code(tree: str) -> Iterator[Path]:
    """The directory `tree`, or that git revision of this one unpacked until the end, with this one's `var`.

    Raises:
        InvalidInput: it is neither.
    """
    if (given := Path(tree).expanduser()).is_dir():
        yield given.resolve()
        return
    git = ["git", "-C", str(ROOT)]
    named = subprocess.run(
        [*git, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{tree}^{{commit}}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if named.returncode:
        raise InvalidInput(f"{tree}: neither a directory nor a git revision of {ROOT}")
    packed = subprocess.run([*git, "archive", named.stdout.strip()], capture_output=True, check=True)
    with tempfile.TemporaryDirectory(prefix="searchbar-tree-") as made:
        with tarfile.open(fileobj=BytesIO(packed.stdout)) as files:
            files.extractall(made, filter="data")
        (Path(made) / "var").symlink_to(ROOT / "var")
        yield Path(made)


@contextmanager
def serving(variants: Sequence[Variant], environment: Mapping[str, str], logs: Path) -> Iterator[list[Target]]:
    """A server for each, ready.

    Raises:
        InvalidInput: a tree that is none.
        SetupError: one did not turn ready.
    """
    with ExitStack() as stack:
        trees = [stack.enter_context(code(variant.tree)) for variant in variants]
        targets = []
        for number, (variant, tree) in enumerate(zip(variants, trees, strict=True)):
            settings = {**environment, **variant.settings, "PYTHONPATH": str(tree)}
            log = logs / f"in-turn-{number}.log"
            targets.append(stack.enter_context(started(settings, log, by_socket=variant.by_socket)))
        yield targets


def in_turn(
    load: Scenario, targets: Sequence[Target], seconds: float, rounds: int, tell: Callable[[str], None], rest_s: float = REST_S
) -> list[list[Visit]]:
    """`rounds` visits to each of `targets`, in the order of the targets."""
    overload = Overload(load)
    drivers = [Driver(overload, target, tell) for target in targets]
    for driver in drivers:
        driver.drive("warm-up", min(load.rate_per_s, OVERLOADS["overload"].load.rate_per_s), WARM_UP_S)
    found: list[list[Visit]] = [[] for _ in targets]
    for number in range(rounds):
        asked = drivers[0].prepare(load.rate_per_s, seconds)
        again = drivers[0].prepare(load.rate_per_s * AFTER_SHARE, AFTER_S)
        order = range(len(targets)) if number % 2 == 0 else reversed(range(len(targets)))
        for at in order:
            driver = drivers[at]
            time.sleep(rest_s)
            burst, _ = driver.drive(BURST, load.rate_per_s, seconds, asked)
            after, _ = driver.drive(AFTER, load.rate_per_s * AFTER_SHARE, AFTER_S, again)
            driver.samples.clear()
            found[at].append(Visit(burst, after))
            tell(f"round {number + 1} of {rounds}, server {at + 1} of {len(targets)}: {burst.goodput_per_s:.0f}/s answered")
    return found


def body(variants: Sequence[Variant], visits: Sequence[Sequence[Visit]], refusal_ms: float) -> str:
    """Markdown: a row for each server, medians of the rounds with the least and the most."""
    heads = (
        "answered/s",
        "× the first, round by round",
        "p90, ms",
        f"refusals of {refusal_ms:g} ms or more, %",
        "… without the machine's pauses, %",
        "slowest refusal, ms",
        "refused just after",
        "neither answered nor refused",
        "cores idle",
    )
    lines = ["| server | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for variant, some in zip(variants, visits, strict=True):
        cells = (
            spread(rates(some), ".0f"),
            spread([rate / first for rate, first in zip(rates(some), rates(visits[0]), strict=True) if first], ".2f"),
            spread([one.burst.p90_ms for one in some], ".1f"),
            spread([100 * one.burst.slow_refusals for one in some], ".3f"),
            spread([100 * one.burst.slow_anyway for one in some], ".3f"),
            spread([one.burst.refusal_ms[-1] for one in some if one.burst.refused], ".1f"),
            spread([one.after.refused for one in some], ".0f"),
            str(sum(sum(part.failures.values()) for one in some for part in (one.burst, one.after))),
            spread([one.burst.idle for one in some], ".2f"),
        )
        lines.append(f"| `{variant.name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def rates(visits: Sequence[Visit]) -> list[float]:
    """What was answered in a second, round by round."""
    return [one.burst.goodput_per_s for one in visits]


def spread(values: Sequence[float], form: str) -> str:
    """The median, and the least and the most."""
    if not values:
        return "–"
    return f"{median(values):{form}} ({min(values):{form}}–{max(values):{form}})"


def scenario(name: str, rate_per_s: float | None) -> Scenario:
    """The load of that name, at another rate where one is given.

    Raises:
        InvalidInput: there is none.
    """
    known = {**STATED, **{name: overload.load for name, overload in OVERLOADS.items()}}
    if name not in known:
        raise InvalidInput(f"no load of that name: {name}; there are {', '.join(known)}")
    return replace(known[name], rate_per_s=rate_per_s or known[name].rate_per_s)


def main(load: Scenario, texts: Sequence[str], seconds: float, rounds: int, logs: Path, console: Console) -> None:
    """Start the servers, load them in turn, print the table to standard output.

    Raises:
        InvalidInput: a variant that is none, or fewer than two.
        SetupError: a server did not turn ready.
    """
    if len(variants := [Variant.parse(text) for text in texts]) < 2:
        raise InvalidInput("two servers at least: with one there is nothing to compare")
    with console.status("starting the servers") as status, serving(variants, load.environment() | QUIET, logs) as targets:
        visits = in_turn(load, targets, seconds, rounds, lambda line: status.update(line))
    cores = len(os.sched_getaffinity(0))
    print(f"{load.name}, {load.rate_per_s:g}/s for {seconds:g} s, {rounds} rounds in turn: medians (least–most).")
    print(f"{cores} cores, generator on them with {priority()}; just after: {AFTER_SHARE:.2f} of the rate for {AFTER_S:g} s.\n")
    print(body(variants, visits, Overload(load).refusal_ms))
