"""Every failure the service can name.

    SearchbarError
    ├── InvalidInput            the client's fault: a field is wrong
    │   ├── TooLarge            … or too big
    │   └── UnsupportedType     … or the body is sent as another type than the route reads
    ├── Forbidden               the caller may not do this
    │   └── KeyMissing          … and has not said who it is
    ├── UnknownItem             the catalogue has no item of this id
    ├── Unavailable             a part is away for now: retry later
    │   ├── ModelUnavailable    Triton is down, restarting, or a model is not ready
    │   ├── IndexUnavailable    the vector index cannot be read
    │   ├── Overloaded          admission turned the request away
    │   └── RateExceeded        the caller has asked more often than its key allows
    ├── DeadlineExceeded        the answer would have come too late
    ├── ModelFailed             Triton answered a request with an error of its own
    └── SetupError              the installation or its configuration is wrong; the message names the cure

The domain raises these; `app/api.py` holds the one table that turns them into HTTP statuses. Vendor exceptions are translated
where their library is imported: `triton_client.py` (gRPC), `triton_sagemaker.py` and `sagemaker/aws.py` (AWS),
`index/edge_engine.py` and
`index/cluster_engine.py` (Qdrant).
"""

from __future__ import annotations


class SearchbarError(Exception):
    """Base of all errors raised on purpose."""


class InvalidInput(SearchbarError):
    """The request cannot be served as sent.

    Args:
        message: what is wrong, for the client.
        field: dotted path of the offending field, e.g. ``filters.year.gte``.
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class TooLarge(InvalidInput):
    """The body or a value exceeds a limit."""


class UnsupportedType(InvalidInput):
    """The body's content type is not one the route reads."""


class Forbidden(SearchbarError):
    """The caller may not do this: its key is wrong, or nobody may."""


class KeyMissing(Forbidden):
    """The caller sent no key where one is needed."""


class UnknownItem(SearchbarError):
    """The catalogue has no item of this id."""


class Unavailable(SearchbarError):
    """A part of the service is away; `retry_after_s` is a hint for the client."""

    retry_after_s: float = 1.0


class ModelUnavailable(Unavailable):
    """Triton cannot be reached, or the model asked for is not ready."""


class IndexUnavailable(Unavailable):
    """The vector index is missing or cannot be read."""


class Overloaded(Unavailable):
    """More work is in flight than is useful; the request was turned away at once."""


class RateExceeded(Unavailable):
    """The caller has asked more often than its key allows; nothing else is wrong."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeadlineExceeded(SearchbarError):
    """The request's time ran out."""


class ModelFailed(SearchbarError):
    """Triton ran the model and it reported an error."""


class SetupError(SearchbarError):
    """Something is missing or wrong on this machine; the message says how to put it right."""
