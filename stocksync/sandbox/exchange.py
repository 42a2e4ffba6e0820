"""One exchange with the sandbox: lets a request meet its outage and its faults, and answers it or not."""

import asyncio

from .connection import Connection
from .faults import FaultPlan, Instead
from .state import SandboxState
from .wire import Request, Response, contract_response, json_response, page_response

_OUTAGE_PAGES = {
    "500": (500, "Internal Server Error"),
    "502": (502, "Bad Gateway"),
    "503": (503, "Service Unavailable"),
    "maintenance": (503, "Down for maintenance"),
}


class Exchange:
    """Takes requests through what befalls them. `outage` is the kind in force, 'off' for none."""

    def __init__(self, state: SandboxState) -> None:
        self.outage = "off"
        self._state = state

    async def serve(self, request: Request, connection: Connection) -> None:
        """Answer one request, rightly or as the faults have it."""
        self._state.taken(request.method)
        try:
            await self._meet(request, connection)
        finally:
            self._state.done()

    async def _meet(self, request: Request, connection: Connection) -> None:
        fate, plan = self._state.meet(request)
        if fate.delay_seconds:
            await asyncio.sleep(fate.delay_seconds)
        if self.outage != "off":
            await self._suffer_outage(request, connection, plan)
            return
        if fate.instead is Instead.RESET:
            self._state.left_unanswered("reset")
            connection.reset()
            return
        response = self._instead(request, fate.instead, plan) or self._answer(request)
        served = fate.instead is None and response.status == 200
        if served and fate.drop_answer:
            self._state.left_unanswered("dropped")
            connection.close()
        elif served and fate.bad_body:
            await self._spoil(response, connection, fate.bad_body)
        else:
            await self._send(response, connection)

    async def _suffer_outage(self, request: Request, connection: Connection, plan: FaultPlan) -> None:
        if self.outage == "timeout":
            self._state.left_unanswered("hung")
            await connection.hang()
        elif self.outage not in _OUTAGE_PAGES:
            # 'reset'; or 'refuse', for a request that was in hand when the door was closed.
            self._state.left_unanswered("reset")
            connection.reset()
        elif request.segments == ("health",):
            await self._send(json_response(503, {"status": "unavailable"}), connection)
        else:
            status, title = _OUTAGE_PAGES[self.outage]
            headers = _retry_after(plan) if self.outage == "maintenance" else ()
            await self._send(page_response(status, title, *headers), connection)

    def _instead(self, request: Request, instead: Instead | None, plan: FaultPlan) -> Response | None:
        match instead:
            case Instead.RATE_LIMIT:
                return contract_response(429, "too many requests", *_retry_after(plan))
            case Instead.ERROR:
                return contract_response(plan.error_status, "a fault of the sandbox: error_share")
            case Instead.REDIRECT:
                return page_response(302, "Found", ("Location", plan.redirect_to))
            case Instead.NOT_SUCCESS:
                # The service itself says this, and it says nothing to strangers.
                refusal = self._state.refusal(request)
                return refusal or contract_response(200, "a fault of the sandbox: not_success_share")
        return None

    def _answer(self, request: Request) -> Response:
        if request.segments == ("health",) and request.method == "GET":
            return json_response(200, {"status": "ok"})
        return self._state.serve(request)

    async def _spoil(self, response: Response, connection: Connection, bad_body: str) -> None:
        if bad_body == "slow_headers":
            self._state.left_unanswered("slow_headers")
            await connection.drip_headers(response)
            return
        if bad_body in ("html", "empty", "no_success"):
            await self._send(_other_body(bad_body), connection)
            return
        self._state.answered(response.status)
        if bad_body == "truncated":
            await connection.send_half(response)
        elif bad_body == "huge":
            await connection.send_huge(response)
        else:
            await connection.drip_body(response)

    async def _send(self, response: Response, connection: Connection) -> None:
        self._state.answered(response.status)
        await connection.send(response)


def _other_body(bad_body: str) -> Response:
    if bad_body == "html":
        return page_response(200, "Please log in")
    return Response(200, b"") if bad_body == "empty" else json_response(200, {"status": "accepted"})


def _retry_after(plan: FaultPlan) -> tuple[tuple[str, str], ...]:
    return () if plan.retry_after is None else (("Retry-After", plan.retry_after),)
