"""Authorization codes: 256 random bits, a minute, once (RFC 6749 sections 4.1.2 and 4.1.3, RFC 7636, RFC 9449).

A code's record moves `fresh` → `used` in one atomic step before anything else is looked at, so however many redeem it,
and wherever the process is killed, no code works twice; a crash after that step costs the person a new sign-in.
It stays as `used` for `REMEMBERED` seconds: who brings the code again ends all that came of it, since either the first
or the second was not the client. A second use while the first is still being answered ends the first's tokens, too:
`settle` sees it after they were made.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

import msgspec

from rempart.kernel.clock import Clock
from rempart.kernel.errors import BadInput
from rempart.kernel.event import Event, EventType, Recorder, Severity
from rempart.kernel.ids import new_id

from ..collapse import Collapse
from ..model import Account, Origin
from ..oauth.demands import audience_kept
from ..oauth.model import Client, Grant, Granted, TokenRequest
from .id_tokens import IdTokens
from .model import OFFLINE, OPENID, AuthorizationRequest, Code, acr_of, told_of_logout
from .ports import AccountReader, Families, LogoutStore, Sessions, SignedIn
from .records import Found, Records, is_handle

LIFETIME = 60.0  # seconds
REMEMBERED = 3600.0  # seconds
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}", re.ASCII)


class Codes:
    """`joined_for`: seconds after which nobody has to be told any more that a session ended."""

    def __init__(
        self,
        records: Records[Code],
        accounts: AccountReader,
        sessions: Sessions,
        families: Families,
        logouts: LogoutStore,
        id_tokens: IdTokens,
        recorder: Recorder,
        refusals: Collapse,
        clock: Clock,
        *,
        trust_domain: str,
        joined_for: float,
    ) -> None:
        self._records, self._accounts, self._sessions, self._families = records, accounts, sessions, families
        self._logouts, self._id_tokens = logouts, id_tokens
        self._recorder, self._refusals, self._clock = recorder, refusals, clock
        self._trust_domain, self._joined_for = trust_domain, joined_for

    async def issue(
        self,
        request: AuthorizationRequest,
        client: Client,
        session: SignedIn,
        scopes: tuple[str, ...],
        origin: Origin,
    ) -> str:
        """Recorded and durable when it returns. Raises Unavailable."""
        account = await self._accounts.peek(session.account_id)
        if account is None or account.disabled:
            raise BadInput("access_denied", "the account is gone or disabled")
        now = self._clock.now()
        code = Code(
            client_id=client.id,
            redirect_uri=request.redirect_uri,
            challenge=request.challenge,
            jkt=request.jkt,
            scopes=scopes,
            audience=request.audience,
            nonce=request.nonce,
            account_id=account.id,
            epoch=account.epoch,
            session_id=session.id,
            amr=session.amr,
            auth_time=session.auth_time,
            grant_id=new_id("fam"),
            expires_at=now + LIFETIME,
        )
        event = self._event(EventType.TOKEN_ISSUED, code, origin, Severity.INFO)
        await self._recorder.record(event)
        return await self._records.open(code)

    async def redeem(self, request: TokenRequest) -> Granted:
        """BadInput `invalid_request` for what is missing, `invalid_grant` for everything else."""
        form, client, origin = request.form, request.client, request.origin
        handle, verifier = form.get("code", ""), form.get("code_verifier", "")
        if not handle:
            raise BadInput("invalid_request", "code is missing")
        if not verifier:
            raise BadInput("invalid_request", "code_verifier is missing")
        found = await self._records.find(handle) if is_handle(handle) else None
        if found is None:
            raise _invalid("the code is unknown or expired")
        code = found.value
        if code.client_id != client.id:
            raise _invalid("the code is another client's")
        if client.created_at > code.expires_at - LIFETIME:  # of one that had this id before, and was deleted
            raise _invalid("the code is older than the client")
        used = None
        if code.state == "fresh":
            used = await self._records.replace(handle, found, msgspec.structs.replace(code, state="used"))
        if used is None:
            await self._again(handle, origin)
            raise _invalid("the code was used before: what came of it is revoked")
        audience = audience_kept(code.audience, form, client, self._trust_domain)
        account = await self._judge(code, form.get("redirect_uri", ""), verifier, request.binding.jkt)
        if told_of_logout(client):
            until = self._clock.now() + self._joined_for
            await self._logouts.joined(code.session_id, client.id, account.id, account.epoch, until)
        return self._granted(handle, used, client, account, audience, origin)

    async def refused(self, client_id: str, error: str, origin: Origin) -> None:
        """The record of a request that a person turned down or couldn't meet."""
        event = origin.stamp(
            Event(
                type=EventType.TOKEN_REFUSED,
                at=self._clock.now(),
                success=False,
                severity=Severity.LOW,
                reason=error,
                details={"token": "code", "client": client_id},  # nosec B105 - a kind
            )
        )
        await self._refusals.record(event, origin.network, client_id, error)

    async def _judge(self, code: Code, redirect_uri: str, verifier: str, jkt: str) -> Account:
        """All that must be right about a code that is now used up. Raises BadInput `invalid_grant`."""
        if code.expires_at <= self._clock.now():
            raise _invalid("the code is unknown or expired")
        if redirect_uri != code.redirect_uri:
            raise _invalid("redirect_uri is not the one of the authorization request")
        if not _VERIFIER.fullmatch(verifier) or not hmac.compare_digest(_challenge(verifier), code.challenge):
            raise _invalid("code_verifier does not match")
        if code.jkt and not hmac.compare_digest(code.jkt, jkt):
            raise _invalid("the code is bound to another DPoP key")
        account = await self._accounts.peek(code.account_id)
        if account is None or account.disabled or account.epoch != code.epoch:
            raise _invalid("the account was disabled or changed")
        if await self._sessions.alive(code.session_id) is None:
            raise _invalid("the session has ended")
        return account

    def _granted(
        self,
        handle: str,
        used: Found[Code],
        client: Client,
        account: Account,
        audience: tuple[str, ...],
        origin: Origin,
    ) -> Granted:
        code = used.value
        acr = acr_of(code.amr)

        def id_token(access_token: str) -> str:
            return self._id_tokens.mint(
                account,
                client=client,
                session_id=code.session_id,
                amr=code.amr,
                auth_time=code.auth_time,
                nonce=code.nonce,
                access_token=access_token,
            )

        async def settle() -> None:
            if await self._records.replace(handle, used, msgspec.structs.replace(code, state="answered")) is None:
                await self._revoke(code, origin)
            elif await self._sessions.alive(code.session_id) is None:  # it ended while this was being granted
                await self._families.revoke(code.grant_id, "logout", self._clock.now())
                raise _invalid("the session has ended")

        return Granted(
            account=account,
            scope=code.scopes,
            audience=audience,
            amr=code.amr,
            auth_time=code.auth_time,
            acr=acr,
            session_id="" if OFFLINE in code.scopes else code.session_id,  # it outlives the session, or ends with it
            refreshable=True,
            grant_id=code.grant_id,
            id_token=id_token if OPENID in code.scopes else None,
            settle=settle,
        )

    async def _again(self, handle: str, origin: Origin) -> None:
        """Revoke what came of this code, and mark it, so that what is being made of it just now is revoked, too."""
        while (found := await self._records.find(handle)) is not None:
            if found.value.state == "reused":
                return
            marked = msgspec.structs.replace(found.value, state="reused")
            if await self._records.replace(handle, found, marked) is not None:
                await self._revoke(found.value, origin)
                return

    async def _revoke(self, code: Code, origin: Origin) -> None:
        await self._families.revoke(code.grant_id, "code reuse", self._clock.now())
        await self._recorder.record(self._event(EventType.TOKEN_REUSED, code, origin, Severity.HIGH))

    def _event(self, kind: EventType, code: Code, origin: Origin, severity: Severity) -> Event:
        reused = kind is EventType.TOKEN_REUSED
        return origin.stamp(
            Event(
                type=kind,
                at=self._clock.now(),
                success=not reused,
                severity=severity,
                reason="an authorization code came again: what came of it was revoked" if reused else "",
                person=code.account_id,
                details={
                    "token": "code",  # nosec B105 - a kind
                    "client": code.client_id,
                    "scope": " ".join(code.scopes),
                    "session": code.session_id,
                    "grant": code.grant_id,
                },
            )
        )


class CodeGrant:
    """`authorization_code` at the token endpoint (`oauth.ports.GrantHandler`)."""

    grant: str = Grant.AUTHORIZATION_CODE

    def __init__(self, codes: Codes) -> None:
        self._codes = codes

    async def redeem(self, request: TokenRequest) -> Granted:
        return await self._codes.redeem(request)


def _challenge(verifier: str) -> str:
    """RFC 7636 section 4.6."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def _invalid(why: str) -> BadInput:
    return BadInput("invalid_grant", why, "start again with a new authorization request")
