"""The sandbox as a server: starts and stops its thread, reads requests off kept-alive connections."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from . import contract, control
from .connection import Connection
from .errors import PortUnavailable, SandboxError
from .exchange import Exchange
from .faults import FaultPlan
from .listener import Listener
from .orders import OrderRow, UnknownOrders
from .state import SandboxState, Stats, check_outage
from .wire import Request, Unreadable, contract_response, read_request

logger = logging.getLogger(__name__)

_STOP_SECONDS = 5.0


def utc_now() -> datetime:
    return datetime.now(UTC)


class Sandbox:
    """A stand-in orders microservice, listening from `start()` to `stop()`; also a context manager.

    `port` 0 takes any free one. The bearer must equal `token`, or be a JWT signed with `jwt_secret` (see
    `make_token`); with neither, any bearer will do. `unknown_orders` says what an order never heard of is:
    'create' makes it on the spot, 'refuse' answers 404. `clock` returns the aware present: it dates
    orders and judges tokens, while latencies and outages take real time.

    All methods may be called from any thread, and `stop()` from a signal handler.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        jwt_secret: str | None = None,
        faults: FaultPlan | None = None,
        clock: Callable[[], datetime] = utc_now,
        unknown_orders: UnknownOrders = "create",
    ) -> None:
        self.host = host
        self.port = port
        self._clock = clock
        self._state = SandboxState(faults or FaultPlan(), clock, token, jwt_secret, unknown_orders)
        self._exchange = Exchange(self._state)
        self._control = control.Control(self._state, lambda: self._exchange.outage, self._change_outage)
        self._connections: dict[asyncio.Task[None], Connection] = {}
        self._thread: threading.Thread | None = None
        self._stop_asked = False
        # These belong to the thread of the event loop; others only hand work to it.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._listener: Listener | None = None
        self._outage_end: asyncio.Task[None] | None = None

    # Life

    @property
    def url(self) -> str:
        """The base address, without a slash at its end. Before `start()` the port may still be 0."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def start(self) -> Self:
        """Listen and answer in a thread of its own; returns when listening.

        Started again after `stop()`, it listens on the same port and knows the same orders.
        Raises `PortUnavailable` when it cannot listen, `SandboxError` when it is running.
        """
        if self._thread is not None:
            raise SandboxError("the sandbox is running already; stop it first")
        self._listener = Listener(self.host, self.port, self._serve)
        self.port = self._listener.port
        self._loop, self._stop_asked = None, False
        started: Future[None] = Future()
        thread = threading.Thread(
            target=self._run_loop, args=(started,), name="stocksync-sandbox", daemon=True
        )
        # Known before it runs: a signal handler may call stop() at any moment from here on.
        self._thread = thread
        thread.start()
        try:
            started.result()
        except BaseException:
            self._thread = None
            raise
        return self

    def stop(self) -> None:
        """Stop listening and break all connections; returns when done, after 5 seconds at most."""
        thread = self._thread
        if thread is None:
            return
        self._stop_asked = True
        # A loop that is closed was stopped by somebody else in this very moment.
        with contextlib.suppress(RuntimeError):
            if self._loop is not None and self._stopping is not None:
                self._loop.call_soon_threadsafe(self._stopping.set)
        thread.join(_STOP_SECONDS)
        if thread.is_alive():
            logger.warning("the sandbox on %s did not stop within %g s; left behind", self.url, _STOP_SECONDS)
        self._thread = None

    def serve_forever(self) -> None:
        """Start if need be, and return when `stop()` was called, by a signal handler or another thread."""
        if self._thread is None:
            self.start()
        try:
            # In slices, because a signal handler may stop the thread and forget it while we wait for it.
            while (thread := self._thread) is not None and thread.is_alive():
                thread.join(0.2)
        finally:
            self.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # What it knows, and what it does wrong

    def orders(self) -> list[OrderRow]:
        """Return all orders of all accounts, in no particular order."""
        return self._state.orders()

    def set_orders(self, orders: Iterable[Mapping[str, Any]]) -> int:
        """Make orders so, as if somebody else had told the microservice; return how many were set.

        Each has `token_id`, `order_id`, and either `is_stock_updated` or `removed`: True; `updated_at`
        (ISO 8601 text) dates the change. Raises `BadFault`, and changes nothing, when one makes no sense.
        """
        return self._state.set_orders(orders)

    def stats(self) -> Stats:
        """Return the counts since the start or the last `reset()`."""
        return self._state.stats()

    @property
    def outage(self) -> str:
        """The kind of outage in force, 'off' for none."""
        return self._exchange.outage

    @property
    def faults(self) -> FaultPlan:
        return self._state.faults()

    def set_faults(self, **changes: Any) -> FaultPlan:
        """Change some fields of the fault plan and return it; `BadFault` says what is allowed."""
        return self._state.change_faults(changes)

    def set_outage(self, kind: str, seconds: float | None = None) -> None:
        """Fail all requests in one way, one of `OUTAGES`, for so many seconds; None lasts until changed."""
        kind, seconds = check_outage(kind, seconds)
        self._on_loop(self._change_outage(kind, seconds))

    def refuse(self, seconds: float | None = None) -> None:
        """Stop listening on the port and break all connections, so that clients are refused."""
        self.set_outage("refuse", seconds)

    def accept(self) -> None:
        """End the outage; listen again if connections were refused."""
        self.set_outage("off")

    def reset(self) -> None:
        """Be as at the start: no orders, no counts, no outage, the faults it was made with."""
        if self._thread is not None:
            self.accept()
        self._state.reset()

    # The thread of the event loop

    def _on_loop(self, work: Coroutine[Any, Any, None]) -> None:
        if self._thread is None or self._loop is None:
            work.close()
            raise SandboxError("the sandbox is not running; call start() first")
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_STOP_SECONDS)

    def _run_loop(self, started: Future[None]) -> None:
        try:
            asyncio.run(self._run(started))
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    async def _run(self, started: Future[None]) -> None:
        assert self._listener is not None
        self._stopping = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._exchange.outage = "off"
        try:
            await self._listener.accept()
        except SandboxError as error:
            started.set_exception(error)
            return
        started.set_result(None)
        if not self._stop_asked:
            await self._stopping.wait()
        self._listener.close()
        self._break_connections()
        # asyncio.run cancels whoever still waits in a latency, an outage or a drip.

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer, self._clock)
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = connection
        self._state.connected()
        # Cancelled only when the sandbox stops; the client having gone is no news here.
        with contextlib.suppress(OSError, asyncio.CancelledError):
            try:
                await self._serve_requests(connection)
            except OSError:
                pass
            except Unreadable as error:
                connection.keep_alive = False
                await connection.send(contract_response(error.status, error.error))
            except Exception:
                logger.exception("the sandbox failed on a request")
                connection.keep_alive = False
                await connection.send(contract_response(500, "the sandbox itself failed; see its log"))
        del self._connections[task]
        connection.close()

    async def _serve_requests(self, connection: Connection) -> None:
        while connection.is_open:
            request = await read_request(connection.reader, _body_limit)
            if request is None:
                return
            connection.keep_alive = request.keep_alive
            if request.segments[:1] == (control.CONTROL_PATH,):
                await self._control.serve(request, connection)
            else:
                await self._exchange.serve(request, connection)

    async def _change_outage(self, kind: str, seconds: float | None) -> None:
        if self._outage_end is not None:
            self._outage_end.cancel()
            self._outage_end = None
        self._exchange.outage = kind
        assert self._listener is not None
        if kind == "refuse":
            self._listener.refuse()
            self._break_connections()
        else:
            await self._listener.accept()
        if seconds is not None and kind != "off":
            self._outage_end = asyncio.create_task(self._end_outage(seconds))

    async def _end_outage(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        # Forgotten before the change, which would cancel the very task that makes it.
        self._outage_end = None
        try:
            await self._change_outage("off", None)
        except PortUnavailable as error:
            logger.error("%s", error)

    def _break_connections(self) -> None:
        for connection in list(self._connections.values()):
            connection.reset()


def _body_limit(request: Request) -> int:
    is_control = request.segments[:1] == (control.CONTROL_PATH,)
    return control.MAX_BODY_BYTES if is_control else contract.MAX_BODY_BYTES
