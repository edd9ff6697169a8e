"""The device authorization endpoint (RFC 8628 section 3.1)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from rempart.kernel.errors import BadInput

from ..oauth.model import Grant
from ..requests import Origins, read_form
from .answers import proving
from .arrivals import Arrivals
from .device import DeviceFlow
from .ports import ClientAuthentication, KeyProofs
from .redirects import with_parameters


class DeviceFace:
    def __init__(
        self,
        flow: DeviceFlow,
        authentication: ClientAuthentication,
        proofs: KeyProofs,
        arrivals: Arrivals,
        origins: Origins,
        *,
        issuer: str,
    ) -> None:
        self._flow, self._authentication, self._proofs = flow, authentication, proofs
        self._arrivals, self._origins, self._issuer = arrivals, origins, issuer

    def routes(self) -> list[BaseRoute]:
        return [Route("/auth/device_authorization", proving(self.begin, self._proofs), methods=["POST"])]

    def metadata(self) -> dict[str, object]:
        return {"device_authorization_endpoint": f"{self._issuer}/device_authorization"}

    async def begin(self, request: Request) -> Response:
        origin = self._origins.of(request)
        form = await read_form(request)
        client = await self._authentication.client(request, form, origin)
        if client.public:
            self._arrivals.admit(origin)
        if Grant.DEVICE_CODE not in client.grants:
            raise BadInput("unauthorized_client", "this client may not use the device flow")
        codes = await self._flow.begin(client, form, await self._proofs.proved(request))
        page = f"{self._issuer}/device"
        document = {
            "device_code": codes.device_code,
            "user_code": codes.user_code,
            "verification_uri": page,
            "verification_uri_complete": with_parameters(page, {"user_code": codes.user_code}),
            "expires_in": codes.expires_in,
            "interval": codes.interval,
        }
        return JSONResponse(document, headers={"cache-control": "no-store", "pragma": "no-cache"})
