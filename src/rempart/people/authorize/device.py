"""Signing in on a device that has no browser: the device authorization grant (RFC 8628).

The device holds a device code of 256 random bits. The person types a user code of eight letters (35 bits), which lives
ten minutes, works once, is kept under a keyed hash, and may be guessed at a few times only.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from rempart.kernel.clock import Clock
from rempart.kernel.errors import BadInput, Conflict, NotFound
from rempart.kernel.event import Event, EventType, Recorder, Severity
from rempart.kernel.ids import new_id

from ..model import Origin
from ..oauth.demands import audience_kept, audience_named
from ..oauth.model import Client, Grant, Granted, TokenRequest
from .id_tokens import IdTokens
from .model import OFFLINE, OPENID, Step, acr_of, reaches, told_of_logout
from .parameters import acr_of_values, scopes_of
from .ports import AccountReader, Clients, Families, Guesses, LogoutStore, Sessions, SignedIn
from .records import Records, is_handle, new_handle

LIFETIME = 600.0  # seconds
REMEMBERED = 900.0  # seconds: a device that asks late hears that it is late
INTERVAL = 5  # seconds between polls, to begin with
SLOWER = 5  # seconds more for each poll that came too soon (section 3.5)
_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"  # section 6.1: no vowels, so no words
_LENGTH = 8
_NOISE = re.compile(r"[\s\-‐-―_.]+")


class DeviceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`state`: `pending`, `approved` (then the person's part is filled in) or `denied`. `interval` in seconds."""

    client_id: str
    scopes: tuple[str, ...]
    audience: tuple[str, ...]
    acr: str
    jkt: str
    created_at: float
    expires_at: float
    state: str = "pending"
    interval: int = INTERVAL
    polled_at: float = 0.0
    account_id: str = ""
    epoch: int = 0
    session_id: str = ""
    amr: tuple[str, ...] = ()
    auth_time: float = 0.0


class UserCode(msgspec.Struct, frozen=True):
    device_code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePrompt:
    user_code: str
    client_id: str
    client_name: str
    scopes: tuple[str, ...]
    step: Step
    acr: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCodes:
    """What the device is told; `user_code` is grouped for reading."""

    device_code: str
    user_code: str
    expires_in: int
    interval: int


class DeviceFlow:
    """`key` (32 bytes) hides user codes in the store; `joined_for` as in `codes.Codes`."""

    def __init__(
        self,
        devices: Records[DeviceRequest],
        user_codes: Records[UserCode],
        clients: Clients,
        accounts: AccountReader,
        sessions: Sessions,
        families: Families,
        logouts: LogoutStore,
        id_tokens: IdTokens,
        guesses: Guesses,
        recorder: Recorder,
        clock: Clock,
        *,
        key: bytes,
        trust_domain: str,
        joined_for: float,
    ) -> None:
        self._devices, self._user_codes, self._clients = devices, user_codes, clients
        self._accounts, self._sessions, self._families = accounts, sessions, families
        self._logouts = logouts
        self._id_tokens, self._guesses, self._recorder, self._clock = id_tokens, guesses, recorder, clock
        self._key, self._trust_domain, self._joined_for = key, trust_domain, joined_for

    async def begin(self, client: Client, form: Mapping[str, str], jkt: str) -> DeviceCodes:
        """`jkt`: the key that the device proved, "" for none. BadInput `invalid_scope`, `invalid_target`."""
        now = self._clock.now()
        device_code = new_handle()
        request = DeviceRequest(
            client_id=client.id,
            scopes=scopes_of(form.get("scope", ""), client),
            audience=audience_named(form, client, self._trust_domain),
            acr=acr_of_values(form.get("acr_values", "").split()),
            jkt=jkt,
            created_at=now,
            expires_at=now + LIFETIME,
        )
        await self._devices.open(request, device_code)
        while True:
            letters = "".join(secrets.choice(_LETTERS) for _ in range(_LENGTH))
            hidden = self._hidden(letters)
            if await self._user_codes.open(UserCode(device_code), hidden) == hidden:
                break
        grouped = f"{letters[:4]}-{letters[4:]}"
        return DeviceCodes(device_code=device_code, user_code=grouped, expires_in=int(LIFETIME), interval=INTERVAL)

    async def find(self, user_code: str, session: SignedIn | None, origin: Origin) -> DevicePrompt:
        """Raises NotFound `no_such_user_code`, Throttled for who guesses."""
        letters, _, request = await self._guess(user_code, session, origin)
        client = await self._clients.get(request.client_id)
        if client is None:
            raise _unknown()
        return DevicePrompt(
            user_code=f"{letters[:4]}-{letters[4:]}",
            client_id=client.id,
            client_name=client.name,
            scopes=request.scopes,
            step=self._step(request, session),
            acr=request.acr,
        )

    async def approve(self, user_code: str, session: SignedIn, origin: Origin) -> None:
        """Raises Conflict `interaction_not_ready`, and as `find` does. The user code is used up by this."""
        letters, device_code, request = await self._guess(user_code, session, origin)
        account = await self._accounts.peek(session.account_id)
        if self._step(request, session) is not Step.CONSENT or account is None or account.disabled:
            raise Conflict("interaction_not_ready", "something else must be done before", "ask for it, then try again")
        await self._answer(
            letters,
            device_code,
            msgspec.structs.replace(
                request,
                state="approved",
                account_id=account.id,
                epoch=account.epoch,
                session_id=session.id,
                amr=session.amr,
                auth_time=session.auth_time,
            ),
            session,
            origin,
        )

    async def deny(self, user_code: str, session: SignedIn, origin: Origin) -> None:
        """Raises as `find` does. The user code is used up by this."""
        letters, device_code, request = await self._guess(user_code, session, origin)
        await self._answer(letters, device_code, msgspec.structs.replace(request, state="denied"), session, origin)

    async def redeem(self, request: TokenRequest) -> Granted:
        """A poll (section 3.4). BadInput `authorization_pending`, `slow_down`, `expired_token`, `access_denied`."""
        handle, client = request.form.get("device_code", ""), request.client
        if not handle:
            raise BadInput("invalid_request", "device_code is missing")
        found = await self._devices.find(handle) if is_handle(handle) else None
        if found is None or found.value.client_id != client.id:
            raise BadInput("invalid_grant", "the device code is unknown or used", "begin again")
        device, now = found.value, self._clock.now()
        if device.expires_at <= now:
            raise BadInput("expired_token", "the device code has expired", "begin again")
        if device.jkt and not hmac.compare_digest(device.jkt, request.binding.jkt):
            raise BadInput("invalid_grant", "the device code is bound to another DPoP key")
        if device.state == "pending":
            early = now - device.polled_at < device.interval
            slower = min(device.interval + SLOWER, int(LIFETIME)) if early else device.interval
            await self._devices.replace(handle, found, msgspec.structs.replace(device, polled_at=now, interval=slower))
            if early:
                raise BadInput("slow_down", "the device asks too often", f"ask every {slower} seconds")
            raise BadInput("authorization_pending", "the person has not answered yet", "ask again later")
        audience = audience_kept(device.audience, request.form, client, self._trust_domain)
        taken = await self._devices.take(handle)
        if taken is None:
            raise BadInput("invalid_grant", "the device code is unknown or used", "begin again")
        if taken.state != "approved":
            raise BadInput("access_denied", "the person said no")
        return await self._granted(taken, client, audience)

    async def _granted(self, device: DeviceRequest, client: Client, audience: tuple[str, ...]) -> Granted:
        account = await self._accounts.peek(device.account_id)
        if account is None or account.disabled or account.epoch != device.epoch:
            raise BadInput("invalid_grant", "the account was disabled or changed")
        if await self._sessions.alive(device.session_id) is None:
            raise BadInput("invalid_grant", "the session has ended")
        if told_of_logout(client):
            until = self._clock.now() + self._joined_for
            await self._logouts.joined(device.session_id, client.id, account.id, account.epoch, until)
        grant_id = new_id("fam")

        def id_token(access_token: str) -> str:
            return self._id_tokens.mint(
                account,
                client=client,
                session_id=device.session_id,
                amr=device.amr,
                auth_time=device.auth_time,
                access_token=access_token,
            )

        async def settle() -> None:
            if await self._sessions.alive(device.session_id) is None:  # it ended while this was being granted
                await self._families.revoke(grant_id, "logout", self._clock.now())
                raise BadInput("invalid_grant", "the session has ended")

        return Granted(
            account=account,
            scope=device.scopes,
            audience=audience,
            amr=device.amr,
            auth_time=device.auth_time,
            acr=acr_of(device.amr),
            session_id="" if OFFLINE in device.scopes else device.session_id,
            refreshable=True,
            grant_id=grant_id,
            settle=settle,
            id_token=id_token if OPENID in device.scopes else None,
        )

    async def _guess(self, user_code: str, session: SignedIn | None, origin: Origin) -> tuple[str, str, DeviceRequest]:
        """The letters, the device code and its pending request; a wrong guess counts (section 5.1)."""
        guesser = f"device {session.account_id if session else 'nobody'}"
        attempt = await self._guesses.begin(guesser, origin.network)
        try:
            letters = _NOISE.sub("", user_code[:64]).upper()
            known = await self._user_codes.find(self._hidden(letters))
            device = await self._devices.find(known.value.device_code) if known else None
        except BaseException:
            await attempt.abandoned()
            raise
        if known is None or device is None or device.value.state != "pending":
            await attempt.failed()
            raise _unknown()
        await attempt.succeeded()
        return letters, known.value.device_code, device.value

    async def _answer(
        self, letters: str, device_code: str, answered: DeviceRequest, session: SignedIn, origin: Origin
    ) -> None:
        """Recorded, then the user code is taken (of many answers one counts), then the device may have it."""
        approved = answered.state == "approved"
        await self._recorder.record(
            origin.stamp(
                Event(
                    type=EventType.CONSENT_CHANGED,
                    at=self._clock.now(),
                    success=approved,
                    severity=Severity.INFO,
                    reason="" if approved else "access_denied",
                    person=session.account_id,
                    details={
                        "client": answered.client_id,
                        "scope": " ".join(answered.scopes),
                        "device": True,
                        "session": session.id,
                    },
                )
            )
        )
        if await self._user_codes.take(self._hidden(letters)) is None:
            raise _unknown()
        while (found := await self._devices.find(device_code)) is not None:
            polled = msgspec.structs.replace(answered, interval=found.value.interval, polled_at=found.value.polled_at)
            if await self._devices.replace(device_code, found, polled) is not None:
                return
        raise _unknown()

    def _step(self, request: DeviceRequest, session: SignedIn | None) -> Step:
        if session is None:
            return Step.SIGN_IN
        return Step.CONSENT if reaches(session.amr, request.acr) else Step.STEP_UP

    def _hidden(self, letters: str) -> str:
        return hmac.digest(self._key, letters.encode("utf-8", "replace"), "sha256").hex()


class DeviceGrant:
    """`urn:ietf:params:oauth:grant-type:device_code` at the token endpoint (`oauth.ports.GrantHandler`)."""

    grant: str = Grant.DEVICE_CODE

    def __init__(self, flow: DeviceFlow) -> None:
        self._flow = flow

    async def redeem(self, request: TokenRequest) -> Granted:
        return await self._flow.redeem(request)


def _unknown() -> NotFound:
    return NotFound("no_such_user_code", "this code is unknown, used or expired", "look at the device's screen again")
