"""One trace for an order: recorded in the monolith, delivered by a worker, the request at the remote. Off, nothing is imported."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from stocksync import OrdersClient, Runtime, StockSyncConfig
from stocksync.store.context import Wakeups
from stocksync.store.migrate import migrate
from tests.session_server import Server

_EXPORTER = InMemorySpanExporter()
ORDER = {"stock_sync.lane": "seller-1", "stock_sync.order": "order-1"}


@pytest.fixture(scope="module", autouse=True)
def provider() -> None:
    """A process has one provider for good; here it is ours."""
    made = TracerProvider()
    made.add_span_processor(SimpleSpanProcessor(_EXPORTER))
    trace.set_tracer_provider(made)


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    _EXPORTER.clear()
    yield _EXPORTER
    _EXPORTER.clear()


@pytest.fixture
def remote() -> Iterator[Server]:
    with Server() as server:
        yield server


def runtime_of(database_url: str, remote: Server, **settings: Any) -> Runtime:
    """As another process would have it: nothing in common but the database."""
    runtime = Runtime(
        StockSyncConfig.load({}, database_url=database_url, microservice_base_url=remote.url, **settings),
        wakeups=Wakeups(),
    )
    migrate(runtime.database)
    return runtime


def by_name(spans: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in spans.get_finished_spans()}


def test_an_order_has_one_trace_from_the_monolith_through_the_worker_to_the_remote(
    database_url: str, remote: Server, spans: InMemorySpanExporter
) -> None:
    monolith, worker = (runtime_of(database_url, remote, tracing=True) for _ in range(2))
    with trace.get_tracer("shop").start_as_current_span("checkout"):
        monolith.service.sync_stock_deduction("seller-1", "order-1", "A", 2)
    worker.service.process_pending_operations()
    monolith.close()
    worker.close()

    found = by_name(spans)
    recorded, delivered, put = (found[name] for name in ("stock_sync.record", "stock_sync.deliver", "PUT"))
    parents = [(span.parent.span_id if span.parent else None) for span in (recorded, delivered, put)]
    assert parents == [span.context.span_id for span in (found["checkout"], recorded, delivered)]
    assert len({span.context.trace_id for span in found.values()}) == 1
    sent = f"00-{put.context.trace_id:032x}-{put.context.span_id:016x}-"
    assert remote.seen[0].headers["traceparent"].startswith(sent)
    assert dict(recorded.attributes or {}) == ORDER
    assert dict(delivered.attributes or {}) == ORDER | {"stock_sync.verdict": "delivered"}
    assert dict(put.attributes or {}) == {"http.request.method": "PUT", "http.response.status_code": 200}
    assert put.kind is SpanKind.CLIENT


def test_a_delivery_that_fails_is_a_span_that_failed(
    database_url: str, remote: Server, spans: InMemorySpanExporter
) -> None:
    runtime = runtime_of(database_url, remote, tracing=True, microservice_connect_timeout=0.5)
    runtime.sender = OrdersClient("http://127.0.0.1:9", connect_timeout=0.5)  # nobody listens there
    runtime.service.sync_stock_deduction("seller-1", "order-1", "A", 2)
    runtime.service.process_pending_operations()
    runtime.close()

    found = by_name(spans)
    assert [
        found[name].status.status_code for name in ("stock_sync.record", "stock_sync.deliver", "PUT")
    ] == [
        StatusCode.UNSET,
        StatusCode.ERROR,
        StatusCode.ERROR,
    ]
    assert (found["PUT"].attributes or {})["error.type"] == "ConnectionError"


def test_an_error_of_the_client_is_traced_by_its_name_alone(
    database_url: str, remote: Server, spans: InMemorySpanExporter
) -> None:
    class Talkative(OrdersClient):
        def update_stock_status(self, **_: Any) -> Any:
            raise RuntimeError("Authorization: Bearer hunter2")

    runtime = runtime_of(database_url, remote, tracing=True)
    runtime.sender = Talkative(remote.url)
    runtime.service.sync_stock_deduction("seller-1", "order-1", "A", 2)
    runtime.service.process_pending_operations()
    runtime.close()

    found = spans.get_finished_spans()
    assert (by_name(spans)["PUT"].attributes or {})["error.type"] == "RuntimeError"
    assert "hunter2" not in "".join(span.to_json() for span in found)


def test_a_trace_that_fails_costs_no_delivery(database_url: str, remote: Server) -> None:
    @contextmanager
    def fails(name: str, *_: Any, **__: Any) -> Iterator[str | None]:
        yield None
        if name != "stock_sync.record":
            raise RuntimeError("no collector")

    runtime = runtime_of(database_url, remote)
    runtime.context = replace(runtime.context, span=fails)
    operation = runtime.service.sync_stock_deduction("seller-1", "order-1", "A", 2).operation_id
    runtime.service.process_pending_operations()

    assert operation
    assert runtime.queries.status_of(operation) == "completed"
    assert len(remote.seen) == 1
    runtime.close()


def test_a_refused_call_leaves_its_span_with_the_error(
    database_url: str, remote: Server, spans: InMemorySpanExporter
) -> None:
    runtime = runtime_of(database_url, remote, tracing=True)
    runtime.inventory.add("A", "Ирина", 1)
    with pytest.raises(Exception, match="too little stock"):
        runtime.inventory_with_sync.remove_as_sale_with_sync("A", "Ирина", 2, "order-1", "seller-1")
    runtime.close()

    recorded = by_name(spans)["stock_sync.record"]
    assert recorded.status.status_code is StatusCode.ERROR
    assert [event.name for event in recorded.events] == ["exception"]


def test_off_there_is_no_span_and_no_header(
    database_url: str, remote: Server, spans: InMemorySpanExporter
) -> None:
    runtime = runtime_of(database_url, remote)
    with trace.get_tracer("shop").start_as_current_span("checkout"):
        runtime.service.sync_stock_deduction("seller-1", "order-1", "A", 2)
    runtime.service.process_pending_operations()
    runtime.close()

    assert list(by_name(spans)) == ["checkout"]
    assert "traceparent" not in remote.seen[0].headers


def test_off_nothing_is_imported() -> None:
    # redis-py loads the package's metrics by itself, where it is installed.
    program = (
        "import sys; from stocksync import Runtime, StockSyncConfig; from stocksync.store.context import Wakeups; "
        "runtime = Runtime(StockSyncConfig.load({}, database_url='sqlite:///unused.db',"
        " microservice_base_url='http://127.0.0.1:9'), wakeups=Wakeups()); runtime.engine; "
        "print([name for name in sys.modules if 'tracecontext' in name])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_without_the_package_it_is_said_how_to_get_it(
    database_url: str, remote: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(Exception, match=r"pip install 'stocksync\[tracing\]'"):
        _ = runtime_of(database_url, remote, tracing=True).context
