"""Signing out where a client asks for it, and telling every client of a session that it ended.

OpenID Connect RP-Initiated Logout 1.0, Back-Channel Logout 1.0. What must be told is queued durably before the session
ends, so neither a crash nor a client that is down loses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from rempart.kernel.clock import Clock
from rempart.kernel.errors import BadInput, NotFound

from ..model import Origin
from ..oauth.model import Client
from .id_tokens import Hint, IdTokens
from .model import Outgoing
from .ports import Clients, Families, LogoutStore, Sessions, SignedIn
from .records import Records, is_handle
from .redirects import MAX_URI, source_of

WAITS = 900.0  # seconds


class LogoutRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`session_id` and `subject`: whose session the verified hint names, "" without one."""

    client_id: str
    redirect_uri: str
    state: str
    subject: str
    session_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogoutPrompt:
    """`client_name` "" when no client names itself. `asks`: the person must confirm before `confirm` is called."""

    id: str = field(repr=False)
    client_name: str
    redirect_source: str
    asks: bool


class Logouts:
    def __init__(
        self,
        waiting: Records[LogoutRequest],
        clients: Clients,
        sessions: Sessions,
        families: Families,
        store: LogoutStore,
        id_tokens: IdTokens,
        clock: Clock,
    ) -> None:
        self._waiting, self._clients, self._sessions, self._families = waiting, clients, sessions, families
        self._store, self._id_tokens, self._clock = store, id_tokens, clock

    async def read(self, parameters: Mapping[str, str]) -> LogoutRequest:
        """Judge a request. BadInput `invalid_request`, `invalid_redirect_uri`: shown as a page, never redirected."""
        hint = None
        if parameters.get("id_token_hint"):
            hint = self._id_tokens.read_hint(parameters["id_token_hint"])
            if hint is None:
                raise BadInput("invalid_request", "id_token_hint is not an ID token of this server")
        client = await self._client(parameters.get("client_id", ""), hint)
        uri = parameters.get("post_logout_redirect_uri", "")
        if uri and (client is None or len(uri) > MAX_URI or uri not in client.post_logout_redirect_uris):
            raise BadInput(
                "invalid_redirect_uri", "post_logout_redirect_uri is not one that this client has registered"
            )
        return LogoutRequest(
            client_id=client.id if client else "",
            redirect_uri=uri,
            state=parameters.get("state", ""),
            subject=hint.subject if hint else "",
            session_id=hint.session_id if hint else "",
        )

    async def begin(self, asked: LogoutRequest, session: SignedIn | None, origin: Origin) -> Outgoing | str | None:
        """As `confirm` where nobody must be asked, else the handle of the waiting request."""
        if session is not None and not _meant(asked, session):
            return await self._waiting.open(asked)
        return await self._end(asked, session, origin)

    async def wait(self, asked: LogoutRequest) -> str:
        """The handle of the waiting request."""
        return await self._waiting.open(asked)

    async def get(self, id: str, session: SignedIn | None) -> LogoutPrompt:
        """Raises NotFound `no_such_interaction`."""
        found = await self._waiting.find(id) if is_handle(id) else None
        if found is None:
            raise _gone()
        asked = found.value
        client = await self._clients.get(asked.client_id) if asked.client_id else None
        return LogoutPrompt(
            id=id,
            client_name=client.name if client else "",
            redirect_source=source_of(asked.redirect_uri) if asked.redirect_uri else "",
            asks=session is not None and not _meant(asked, session),
        )

    async def confirm(
        self,
        id: str,
        session: SignedIn | None,
        origin: Origin,
    ) -> Outgoing | None:
        """End the session. None: nobody to go back to. Raises NotFound `no_such_interaction`."""
        asked = await self._waiting.take(id) if is_handle(id) else None
        if asked is None:
            raise _gone()
        return await self._end(asked, session, origin)

    async def session_ends(self, session_id: str, account_id: str) -> None:
        """To be called before a session ends, whoever ends it: queues what its clients must be told. Idempotent.

        What was granted for the session alone ends with it; what was granted offline doesn't (OpenID Connect
        Back-Channel Logout section 2.7).
        """
        now = self._clock.now()
        await self._store.ended(session_id, now)
        await self._families.revoke_all(account_id, "logout", now, session_id=session_id)

    async def _end(self, asked: LogoutRequest, session: SignedIn | None, origin: Origin) -> Outgoing | None:
        ending = session.id if session is not None else asked.session_id  # a hint is enough where no cookie came
        if ending:
            await self._sessions.end(ending, "logout", origin)
        if not asked.redirect_uri:
            return None
        return Outgoing(asked.redirect_uri, {"state": asked.state} if asked.state else {})

    async def _client(self, client_id: str, hint: Hint | None) -> Client | None:
        if hint is not None and client_id and client_id != hint.client_id:
            raise BadInput("invalid_request", "client_id is not the one that id_token_hint was made for")
        wanted = hint.client_id if hint else client_id
        if not wanted:
            return None
        client = await self._clients.get(wanted) if len(wanted) <= 200 and wanted.isprintable() else None
        if client is None:
            raise BadInput("unknown_client", "this application is not registered here")
        return client


def _meant(asked: LogoutRequest, session: SignedIn) -> bool:
    """Whether the hint names this very session: then the person's own client asks, and nobody must be asked."""
    return bool(asked.session_id) and asked.session_id == session.id and asked.subject == session.account_id


def _gone() -> NotFound:
    return NotFound("no_such_interaction", "this request is over or unknown", "sign out on your account page")
