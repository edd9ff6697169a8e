"""What pages need of the other rooms; `servers/people_pages.py` fits each to the service that does it.

Refusals are RempartErrors: a page shows the catalogue's text for their code, never their English reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response

from rempart.people.model import Origin

from .model import (
    Changed,
    Connected,
    DeviceWaiting,
    Entered,
    FactorChoice,
    Factors,
    HalfDone,
    Happening,
    LinkShown,
    Place,
    SignedIn,
    SignOutAsked,
    TotpSetup,
    Waiting,
)


class BrowserSessions(Protocol):
    """Sessions of browsers and of everything else that a person is signed in with."""

    async def find(self, token: str, origin: Origin) -> SignedIn | None:
        """None when the token is unknown, expired or ended. Raises Unavailable."""

    async def end(self, who: SignedIn, origin: Origin) -> None: ...

    async def places(self, who: SignedIn) -> Sequence[Place]:
        """Newest first."""

    async def end_place(self, who: SignedIn, place_id: str, origin: Origin) -> None:
        """Raises NotFound."""

    async def end_all(self, who: SignedIn, origin: Origin) -> None:
        """This one, too."""


class SigningIn(Protocol):
    """The steps of proving who one is. `old` is what the browser's session cookie holds: the new session goes on from
    it, or replaces it when it is somebody else's."""

    async def password(
        self, email: str, password: str, device: str | None, old: str, origin: Origin
    ) -> Entered | HalfDone:
        """Raises Unauthenticated `login_failed`, Throttled."""

    async def passkey_options(self, browser: str) -> dict[str, Any]:
        """For `navigator.credentials.get` (WebAuthn Level 3, section 5.5) before anybody said who they are.

        The answer is good from the browser that holds `browser` only."""

    async def passkey(self, answer: str, browser: str, old: str, origin: Origin) -> Entered:
        """`answer`: the credential's JSON as the browser gives it. Raises Unauthenticated, BadInput, Throttled."""

    async def step_up(self, who: SignedIn) -> HalfDone | None:
        """Begin the second step for somebody who is signed in; None when they have no factor."""

    async def choice(self, step: str) -> FactorChoice:
        """Raises Unauthenticated `sign_in_expired`."""

    async def enrolling(self, step: str) -> SignedIn:
        """Whose sign-in waits until they set up a first factor: for `OwnFactors` alone, without a session.

        Raises Unauthenticated `sign_in_expired`, also for who has a factor."""

    async def factor(self, step: str, answer: str, old: str, origin: Origin, *, passkey: bool) -> Entered:
        """Raises Unauthenticated `factor_failed` (try again) or `sign_in_expired` (begin again), Throttled."""


class Interactions(Protocol):
    """Authorization requests that wait for their person. All raise NotFound `no_such_interaction`."""

    async def get(self, handle: str, who: SignedIn | None) -> Waiting:
        """`next` is what to ask for now."""

    async def choose(self, handle: str, who: SignedIn) -> None:
        """The person goes on with the account that is signed in."""

    async def decide(self, request: Request, handle: str, who: SignedIn, approved: bool, origin: Origin) -> Response:
        """Send the browser to the client, with a code or `access_denied`. `approved` is consent, where it is asked for.

        Raises Conflict when the person must do something else before."""

    async def refuse(self, request: Request, handle: str, origin: Origin, *, unmet: bool = False) -> Response:
        """Send the browser back without an answer; `unmet`: what the client demands can't be done."""


class DeviceRequests(Protocol):
    async def find(self, user_code: str, who: SignedIn | None, origin: Origin) -> DeviceWaiting:
        """Raises NotFound for an unknown or used code, Throttled for who guesses."""

    async def decide(self, user_code: str, who: SignedIn, approved: bool, origin: Origin) -> None:
        """Raises Conflict when the person must do something else before."""


class SignOuts(Protocol):
    """RP-initiated logout that waits for the person's word."""

    async def get(self, handle: str, who: SignedIn | None) -> SignOutAsked:
        """Raises NotFound."""

    async def confirm(self, request: Request, handle: str, who: SignedIn | None, origin: Origin) -> Response | None:
        """End the session and send the browser to the client; None when it stays here."""


class Links(Protocol):
    """Single-use links by mail. `purpose` of one: `reset`, `invitation` or `factor-reset`."""

    async def ask(self, purpose: str, email: str, language: str, origin: Origin) -> None:
        """Answers alike, and in the same time, whether or not somebody has that address. Raises Throttled."""

    async def show(self, purpose: str, token: str) -> LinkShown:
        """Uses nothing up. Raises NotFound."""

    async def redeem(self, purpose: str, token: str, password: str, origin: Origin) -> None:
        """Raises NotFound; BadInput for a password that can't be used: then the link is still good."""


class OwnFactors(Protocol):
    """A person's second factors and passkeys. With each change everything that was signed in ends."""

    async def all(self, who: SignedIn) -> Factors: ...

    async def begin_totp(self, who: SignedIn) -> TotpSetup:
        """The secret of a set-up that is under way, or a new one."""

    async def confirm_totp(self, who: SignedIn, code: str, origin: Origin) -> Changed:
        """Raises Unauthenticated or BadInput for a wrong code."""

    async def remove_totp(self, who: SignedIn, origin: Origin) -> Changed: ...

    async def new_backup_codes(self, who: SignedIn, origin: Origin) -> Changed: ...

    async def passkey_options(self, who: SignedIn) -> dict[str, Any]:
        """For `navigator.credentials.create` (WebAuthn Level 3, section 5.4)."""

    async def add_passkey(self, who: SignedIn, name: str, answer: str, origin: Origin) -> Changed: ...

    async def rename_passkey(self, who: SignedIn, passkey_id: str, name: str, origin: Origin) -> None: ...

    async def remove_passkey(self, who: SignedIn, passkey_id: str, origin: Origin) -> Changed: ...


class OwnAccount(Protocol):
    async def rename(self, who: SignedIn, name: str, origin: Origin) -> None: ...

    async def change_password(self, who: SignedIn, old: str, new: str, device: str | None, origin: Origin) -> Changed:
        """Every session ends; this browser gets a new one. Raises Unauthenticated, BadInput, Throttled."""

    async def activity(self, who: SignedIn) -> Sequence[Happening]:
        """Newest first, bounded."""

    async def applications(self, who: SignedIn) -> Sequence[Connected]: ...

    async def disconnect(self, who: SignedIn, client_id: str, origin: Origin) -> None: ...

    async def export(self, who: SignedIn) -> dict[str, Any]:
        """Everything that is kept about the person, secrets left out."""
