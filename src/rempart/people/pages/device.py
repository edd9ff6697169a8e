"""Letting a device in (RFC 8628 section 3.3): a code, then who asks for what, then the person's word.

The code is shown again before it is approved, so that somebody who was sent a link compares it (section 5.4).
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from rempart.kernel.errors import BadInput, NotFound, RempartError, Throttled

from .model import DeviceWaiting, Next
from .ports import DeviceRequests, SigningIn
from .sign_in import FACTOR
from .visit import SIGN_IN, Door, Problem, Visit

DEVICE = "/auth/device"


@dataclass(frozen=True)
class DevicePages:
    devices: DeviceRequests
    signing_in: SigningIn

    def routes(self, door: Door) -> list[BaseRoute]:
        return [
            Route(DEVICE, door(self.ask), methods=["GET"]),
            Route(DEVICE, door(self.decide), methods=["POST"]),
            Route(DEVICE + "/approved", door(self.approved), methods=["GET"]),
            Route(DEVICE + "/refused", door(self.refused), methods=["GET"]),
        ]

    async def ask(self, visit: Visit) -> Response:
        code = visit.query("user_code")[:64]
        if not code:
            return self._enter(visit)
        try:
            waiting = await self.devices.find(code, visit.who, visit.origin)
        except (NotFound, BadInput, Throttled) as error:
            return self._enter(visit, error, code)
        if visit.who is None or waiting.next in (Next.SIGN_IN, Next.SELECT_ACCOUNT):
            return visit.go(f"{SIGN_IN}?{urlencode({'next': _confirming(waiting)})}")
        if waiting.next is Next.STEP_UP:
            half = await self.signing_in.step_up(visit.who)
            if half is None:
                return visit.show("factor_missing", status=403, waiting=None)
            visit.half_way(half)
            return visit.go(f"{FACTOR}?{urlencode({'next': _confirming(waiting)})}")
        return visit.show("device_confirm", waiting=waiting)

    async def decide(self, visit: Visit) -> Response:
        form = await visit.form()
        approved = form.get("decision") == "approve"
        try:
            await self.devices.decide(visit.query("user_code")[:64], visit.person(), approved, visit.origin)
        except (NotFound, BadInput, Throttled) as error:
            return self._enter(visit, error, "")
        return visit.go(DEVICE + ("/approved" if approved else "/refused"))

    async def approved(self, visit: Visit) -> Response:
        return visit.show("device_done", approved=True)

    async def refused(self, visit: Visit) -> Response:
        return visit.show("device_done", approved=False)

    def _enter(self, visit: Visit, error: RempartError | None = None, code: str = "") -> Response:
        problems: list[Problem] = [visit.problem(error, "user_code")] if error else []
        return visit.show("device", status=error.status if error else 200, problems=problems, code=code)


def _confirming(waiting: DeviceWaiting) -> str:
    return f"{DEVICE}?user_code={waiting.user_code}"
