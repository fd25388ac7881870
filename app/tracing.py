"""OpenTelemetry traces over OTLP/HTTP: the only module that imports opentelemetry, and only when an endpoint is set."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from app import __version__
from app.errors import SetupError
from app.settings import Settings
from app.spans import Attribute, Kind, Span

if TYPE_CHECKING:
    from opentelemetry import trace as api
    from opentelemetry.sdk.trace import TracerProvider

SERVICE = "searchbar-gateway"
TRITON_SERVICE = "searchbar-triton"
PATH = "/v1/traces"
EXPORT_EVERY_MS = 1000
EXPORT_TIMEOUT_S = 5.0


class OtelSpan:
    """A span of OpenTelemetry; fulfils `spans.Span`."""

    def __init__(self, span: api.Span, tracer: api.Tracer) -> None:
        self._span = span
        self._tracer = tracer

    @property
    def traceparent(self) -> str:
        context = self._span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def child(self, name: str, kind: Kind, links: Sequence[Span]) -> OtelSpan:
        from opentelemetry import trace as api

        kinds = {"internal": api.SpanKind.INTERNAL, "client": api.SpanKind.CLIENT}
        linked = [api.Link(other._span.get_span_context()) for other in links if isinstance(other, OtelSpan)]
        within = api.set_span_in_context(self._span)
        return OtelSpan(self._tracer.start_span(name, within, kinds[kind], links=linked), self._tracer)

    def link(self, other: Span) -> None:
        if isinstance(other, OtelSpan) and self._span.is_recording():  # its caller may have gone
            self._span.add_link(other._span.get_span_context())

    def note(self, name: str, value: Attribute) -> None:
        if self._span.is_recording():
            self._span.set_attribute(name, value)

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def fail(self, error: str) -> None:
        from opentelemetry import trace as api

        self._span.set_status(api.StatusCode.ERROR, error)

    def end(self) -> None:
        self._span.end()


class OtelTracer:
    """Samples requests and sends their spans in batches, from a thread; fulfils `spans.Tracer`.

    A collector that is away costs the spans, not the requests: the exporter says so in the log.

    Args:
        endpoint: base URL of an OTLP/HTTP collector, e.g. ``http://127.0.0.1:4318``.
        share: of the requests that come without a `traceparent`; one that has one follows its flag.

    Raises:
        SetupError: the extra `tracing` is not installed.
    """

    def __init__(self, endpoint: str, share: float) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
        except ModuleNotFoundError as exc:
            raise SetupError(
                f"SEARCHBAR_OTLP_ENDPOINT is set but {exc.name} is not installed: pip install -e '.[tracing]'"
            ) from exc
        resource = Resource.create({"service.name": SERVICE, "service.version": __version__})
        self._provider: TracerProvider = TracerProvider(
            sampler=ParentBasedTraceIdRatio(share), resource=resource, shutdown_on_exit=False
        )
        exporter = OTLPSpanExporter(traces_url(endpoint), timeout=EXPORT_TIMEOUT_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=EXPORT_EVERY_MS))
        self._tracer = self._provider.get_tracer("searchbar", __version__)

    def request(self, method: str, path: str, headers: dict[bytes, bytes]) -> Span | None:
        from opentelemetry import trace as api
        from opentelemetry.context import Context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier = {name: headers[name.encode()].decode("latin-1") for name in FIELDS if name.encode() in headers}
        caller = TraceContextTextMapPropagator().extract(carrier, Context())
        attributes = {"http.request.method": method, "url.path": path}
        span = self._tracer.start_span(method, caller, api.SpanKind.SERVER, attributes)
        return OtelSpan(span, self._tracer) if span.is_recording() else None

    async def close(self) -> None:
        """Send what is left."""
        await asyncio.to_thread(self._provider.shutdown)


FIELDS = ("traceparent", "tracestate")


@asynccontextmanager
async def tracing(settings: Settings) -> AsyncIterator[OtelTracer | None]:
    """The tracer of the settings; None when no endpoint is set."""
    if settings.otlp_endpoint is None:
        yield None
        return
    tracer = OtelTracer(settings.otlp_endpoint, settings.trace_share)
    try:
        yield tracer
    finally:
        await tracer.close()


def triton_arguments(settings: Settings) -> list[str]:
    """Arguments with which a Triton sends its spans to the same collector; none when no endpoint is set.

    At rate 0 it traces those requests that come with a `traceparent`, whatever the rate, and no others: the gateway samples.
    """
    if settings.otlp_endpoint is None:
        return []
    values = {
        "level": "TIMESTAMPS",
        "rate": "0",
        "count": "-1",
        "mode": "opentelemetry",
        "opentelemetry,url": traces_url(settings.otlp_endpoint),
        "opentelemetry,resource": f"service.name={TRITON_SERVICE}",
        "opentelemetry,bsp_schedule_delay": str(EXPORT_EVERY_MS),
    }
    return [f"--trace-config={name}={value}" for name, value in values.items()]


def traces_url(endpoint: str) -> str:
    """Where an OTLP/HTTP collector takes traces."""
    return endpoint.rstrip("/") + PATH
