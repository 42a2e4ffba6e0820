"""The control API of the sandbox under `/_sandbox/`: sets faults, shows what was done. Loopback only."""

from collections.abc import Awaitable, Callable
from typing import Any

from .connection import Connection
from .errors import BadFault
from .state import SandboxState, check_outage
from .wire import Request, Response, json_response

CONTROL_PATH = "_sandbox"
MAX_BODY_BYTES = 64 * 1024 * 1024


class Control:
    """Answers the control API. Refusals are 400 with `{"error": what is wrong and what is allowed}`.

    `outage` tells the kind in force; `change_outage` takes a kind and its seconds, None for an open end.
    """

    def __init__(
        self,
        state: SandboxState,
        outage: Callable[[], str],
        change_outage: Callable[[str, float | None], Awaitable[None]],
    ) -> None:
        self._state = state
        self._outage = outage
        self._change_outage = change_outage

    async def serve(self, request: Request, connection: Connection) -> None:
        if not connection.is_local:
            await connection.send(_error(403, "the control API answers this machine only"))
            return
        try:
            match request.method, request.segments[1:]:
                case "POST", ("outage",):
                    await self._outage_asked(request, connection)
                case "POST", ("reset",):
                    await self._change_outage("off", None)
                    self._state.reset()
                    await connection.send(json_response(200, {"reset": True}))
                case _:
                    await connection.send(self._answer(request))
        except BadFault as error:
            await connection.send(_error(400, str(error)))

    async def _outage_asked(self, request: Request, connection: Connection) -> None:
        asked = _object(request)
        if unknown := sorted(set(asked) - {"kind", "seconds"}):
            raise BadFault(f"unknown: {', '.join(unknown)}; allowed: kind, seconds")
        kind, seconds = check_outage(asked.get("kind"), asked.get("seconds"))
        answer = json_response(200, {"kind": kind, "seconds": seconds})
        if kind != "refuse":
            await self._change_outage(kind, seconds)
            await connection.send(answer)
            return
        if seconds is None:
            raise BadFault("to refuse connections, give seconds: nobody could reach this API to end it")
        # Answered first: closing the door breaks every connection, this one as well.
        connection.keep_alive = False
        await connection.send(answer)
        await self._change_outage(kind, seconds)

    def _answer(self, request: Request) -> Response:
        match request.method, request.segments[1:]:
            case "GET", ("faults",):
                return json_response(200, self._state.faults().as_json())
            case "PUT", ("faults",):
                return json_response(200, self._state.change_faults(_object(request)).as_json())
            case "GET", ("outage",):
                return json_response(200, {"kind": self._outage()})
            case "GET", ("stats",):
                return json_response(200, self._state.stats())
            case "GET", ("orders",):
                return json_response(200, {"orders": self._state.orders()})
            case "POST", ("orders",):
                orders = _object(request).get("orders")
                if not isinstance(orders, list):
                    raise BadFault('the body is {"orders": [...]}')
                return json_response(200, {"set": self._state.set_orders(orders)})
        return _error(404, "GET or PUT faults, GET or POST outage, GET stats, GET or POST orders, POST reset")


def _object(request: Request) -> dict[str, Any]:
    try:
        content = request.json()
    except ValueError as error:
        raise BadFault("the body is not JSON") from error
    if not isinstance(content, dict):
        raise BadFault("the body is not a JSON object")
    return content


def _error(status: int, error: str) -> Response:
    return json_response(status, {"error": error})
