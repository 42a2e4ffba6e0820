"""OpenTelemetry: a span for what is recorded, for its delivery and for the request, joined in one trace across processes.

An order keeps its `traceparent` (W3C Trace Context, section 3.2), and the remote is sent that of the request. Who
exports the spans is the process's own affair.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stocksync.errors import needs_extra


class Tracing:
    """Spans of the process's tracer provider. Raises MissingExtra."""

    def __init__(self) -> None:
        with needs_extra("tracing"):
            from opentelemetry import trace
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        self._trace, self._w3c = trace, TraceContextTextMapPropagator()

    @contextmanager
    def span(
        self, name: str, about: dict[str, Any], parent: str | None = None, kind: str = "INTERNAL"
    ) -> Iterator[str | None]:
        """A span around the block, which gets its traceparent (None: nobody takes spans).

        Args:
            about: its attributes, which the block may add to. One without a value is left out; with `error.type` the
                span is one that failed.
            parent: the traceparent that it goes on from; None: the span around this one.
            kind: as OpenTelemetry calls it.
        """
        around = self._w3c.extract({"traceparent": parent}) if parent else None
        tracer, carrier = self._trace.get_tracer("stocksync"), dict[str, str]()
        with tracer.start_as_current_span(name, around, self._trace.SpanKind[kind]) as span:
            self._w3c.inject(carrier)
            yield carrier.get("traceparent")
            span.set_attributes({key: value for key, value in about.items() if value is not None})
            if about.get("error.type"):
                span.set_status(self._trace.StatusCode.ERROR)
