"""Signing in: a password or a passkey, a factor on a page of its own, and back to who asked for it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from rempart.kernel.errors import BadInput, RempartError, Throttled, Unauthenticated

from .model import Entered, FactorChoice, HalfDone, Next, Waiting
from .options import as_attribute
from .ports import Interactions, SigningIn
from .visit import SIGN_IN, Door, Visit

FACTOR = SIGN_IN + "/factor"
SET_UP = SIGN_IN + "/set-up"
CONSENT = "/auth/consent"
_NOTICES = frozenset({"reset", "invitation", "factor-reset"})
_OVER = frozenset({"sign_in_expired"})
PHISHING_RESISTANT = "phr"  # the `acr` that only a passkey reaches


def go_on(visit: Visit, path: str = SIGN_IN) -> str:
    """`path` with what is waited for: the handle of a request, or the page to come back to."""
    handle = visit.handle("interaction")
    return f"{path}?{urlencode({'interaction': handle} if handle else {'next': visit.next()})}"


@dataclass(frozen=True)
class SignInPages:
    signing_in: SigningIn
    interactions: Interactions

    def routes(self, door: Door) -> list[BaseRoute]:
        return [
            Route(SIGN_IN, door(self.ask), methods=["GET"]),
            Route(SIGN_IN, door(self.answer), methods=["POST"]),
            Route(FACTOR, door(self.ask_factor), methods=["GET"]),
            Route(FACTOR, door(self.answer_factor), methods=["POST"]),
            Route(CONSENT, door(self.ask), methods=["GET"]),
            Route(CONSENT, door(self.consent), methods=["POST"]),
        ]

    async def ask(self, visit: Visit) -> Response:
        """Whatever the path was: the next step is what the waiting request says."""
        handle = visit.handle("interaction")
        if not handle:
            if visit.who and visit.query("again") != "1":
                return visit.go(visit.next())
            return await self._form(visit, None)
        waiting = await self._waiting(visit, handle)
        if waiting.next is Next.SIGN_IN or visit.who is None or visit.query("other") == "1":
            return await self._form(visit, waiting)
        if waiting.next is Next.STEP_UP:
            half = await self.signing_in.step_up(visit.who)
            if half is None or not await self._can_reach(half, waiting.acr):
                return visit.show("factor_missing", status=403, waiting=waiting, form_targets=[waiting.redirect_source])
            visit.half_way(half)
            return visit.go(go_on(visit, FACTOR))
        if waiting.next is Next.SELECT_ACCOUNT:
            return visit.show("select_account", waiting=waiting, form_targets=[waiting.redirect_source])
        if waiting.next is Next.CONSENT:
            visit.here = CONSENT
            return visit.show("consent", waiting=waiting, form_targets=[waiting.redirect_source])
        return visit.leave_to(
            await self.interactions.decide(visit.request, handle, visit.who, approved=True, origin=visit.origin)
        )

    async def answer(self, visit: Visit) -> Response:
        form = await visit.form()
        handle = visit.handle("interaction")
        waiting = await self._waiting(visit, handle) if handle else None
        if handle and "refuse" in form:
            unmet = waiting is not None and waiting.next is Next.STEP_UP
            return visit.leave_to(await self.interactions.refuse(visit.request, handle, visit.origin, unmet=unmet))
        if handle and "choose" in form:
            await self.interactions.choose(handle, visit.person())
            return visit.go(go_on(visit))
        email = form.get("email", "")
        try:
            done: Entered | HalfDone
            if form.get("passkey"):
                done = await self.signing_in.passkey(form["passkey"], visit.browser, visit.session, visit.origin)
            else:
                password = form.get("password", "")
                done = await self.signing_in.password(email, password, visit.device, visit.session, visit.origin)
        except (Unauthenticated, BadInput, Throttled) as error:
            return await self._form(visit, waiting, error, email)
        if isinstance(done, HalfDone):
            visit.half_way(done)
            return visit.go(go_on(visit, FACTOR))
        visit.enter(done)
        return visit.go(go_on(visit) if handle else visit.next())

    async def ask_factor(self, visit: Visit) -> Response:
        return await self._factor(visit)

    async def answer_factor(self, visit: Visit) -> Response:
        form = await visit.form()
        given = form.get("passkey") or form.get("code", "")
        try:
            entered = await self.signing_in.factor(
                visit.step, given, visit.session, visit.origin, passkey="passkey" in form
            )
        except (Unauthenticated, BadInput, Throttled) as error:
            return self._begin_again(visit) if error.code in _OVER else await self._factor(visit, error)
        visit.enter(entered)
        return visit.go(go_on(visit) if visit.handle("interaction") else visit.next())

    async def consent(self, visit: Visit) -> Response:
        form = await visit.form()
        handle = visit.handle("interaction")
        who = visit.who
        if not handle or who is None:
            return visit.go(go_on(visit))
        approved = form.get("decision") == "approve"
        return visit.leave_to(
            await self.interactions.decide(visit.request, handle, who, approved=approved, origin=visit.origin)
        )

    async def _can_reach(self, half: HalfDone, acr: str) -> bool:
        return acr != PHISHING_RESISTANT or (await self.signing_in.choice(half.step)).options is not None

    async def _waiting(self, visit: Visit, handle: str) -> Waiting:
        waiting = await self.interactions.get(handle, visit.who)
        visit.prefer(waiting.locale)
        return waiting

    async def _form(
        self, visit: Visit, waiting: Waiting | None, error: RempartError | None = None, email: str = ""
    ) -> Response:
        visit.here = SIGN_IN
        hint = visit.who.email if visit.who and visit.query("other") != "1" else ""
        notice = visit.query("notice")
        return visit.show(
            "sign_in",
            status=error.status if error else 200,
            problems=[visit.problem(error)] if error else [],
            form_targets=[waiting.redirect_source] if waiting else [],
            waiting=waiting,
            email=email or (waiting.login_hint if waiting else "") or hint,
            options=as_attribute(await self.signing_in.passkey_options(visit.browser)),
            notice=notice if notice in _NOTICES | {"expired"} else "",
        )

    async def _factor(self, visit: Visit, error: RempartError | None = None) -> Response:
        handle = visit.handle("interaction")
        waiting = await self._waiting(visit, handle) if handle else None
        try:
            choice = await self.signing_in.choice(visit.step)
        except Unauthenticated:
            return self._begin_again(visit)
        if not choice.code and choice.options is None:
            return visit.go(go_on(visit, SET_UP))
        if waiting is not None and waiting.next is Next.STEP_UP and waiting.acr == PHISHING_RESISTANT:
            choice = FactorChoice(code=False, options=choice.options)
        return visit.show(
            "factor",
            status=error.status if error else 200,
            problems=[visit.problem(error, "code" if choice.code and not isinstance(error, Throttled) else "")]
            if error
            else [],
            form_targets=[waiting.redirect_source] if waiting else [],
            code=choice.code,
            options=as_attribute(choice.options) if choice.options is not None else "",
            back=go_on(visit),
        )

    def _begin_again(self, visit: Visit) -> Response:
        return visit.go(f"{go_on(visit)}&again=1&notice=expired")
