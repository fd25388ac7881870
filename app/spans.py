"""Spans of a traced request, as the serving path sees them: nothing here knows who records them (`tracing.py` does).

The span under way travels in a context variable, which asyncio hands on to every task. A request that is not traced has none;
then each function below reads that variable and is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Literal, Protocol

Kind = Literal["internal", "client"]
Attribute = str | int | float | bool


class Span(Protocol):
    """A piece of a request's work. Implementation: `tracing.OtelSpan`."""

    @property
    def traceparent(self) -> str:
        """W3C Trace Context's header for whoever is called on behalf of this span."""

    def child(self, name: str, kind: Kind, links: Sequence[Span]) -> Span:
        """A span that begins now within this one; `links` are spans that it also works for."""

    def link(self, other: Span) -> None:
        """Point to a span of another trace, or of another branch of this one."""

    def note(self, name: str, value: Attribute) -> None:
        """Set an attribute."""

    def rename(self, name: str) -> None:
        """Give it a better name."""

    def fail(self, error: str) -> None:
        """Say what went wrong."""

    def end(self) -> None:
        """It is done."""


class Tracer(Protocol):
    """Begins the span of a request."""

    def request(self, method: str, path: str, headers: dict[bytes, bytes]) -> Span | None:
        """The server's span of a request, within the caller's by its `traceparent`; None when it is not to be traced."""


_current: ContextVar[Span | None] = ContextVar("searchbar_span", default=None)
_UNTRACED: AbstractContextManager[Span | None] = nullcontext()


class Entered(AbstractContextManager["Span | None"]):
    """Makes a span the current one; ends it at the end of the block, with what was raised as its error."""

    def __init__(self, span: Span | None) -> None:
        self._span = span

    def __enter__(self) -> Span | None:
        self._token: Token[Span | None] = _current.set(self._span)
        return self._span

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        _current.reset(self._token)
        if self._span is not None:
            if exc is not None:
                self._span.fail(f"{type(exc).__name__}: {exc}".removesuffix(": "))
            self._span.end()


def current() -> Span | None:
    """The span under way in this task."""
    return _current.get()


def span(name: str, kind: Kind = "internal") -> AbstractContextManager[Span | None]:
    """A span within the current one for the block."""
    parent = _current.get()
    return _UNTRACED if parent is None else Entered(parent.child(name, kind, ()))


def shared(name: str, served: Sequence[Span | None]) -> AbstractContextManager[Span | None]:
    """A span for work that serves several at once: within the first one's trace, linked to all of them and they to it.

    Args:
        served: the span that each of them waits in; None for those that are not traced.
    """
    waiting = [one for one in served if one is not None]
    if not waiting:
        return _UNTRACED if _current.get() is None else Entered(None)  # the task may have inherited somebody else's
    work = waiting[0].child(name, "internal", waiting)
    for other in waiting[1:]:
        other.link(work)
    work.note("searchbar.batch.size", len(served))
    return Entered(work)


def note(name: str, value: Attribute) -> None:
    """Set an attribute of the current span."""
    if (now := _current.get()) is not None:
        now.note(name, value)
