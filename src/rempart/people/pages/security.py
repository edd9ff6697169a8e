"""What proves a person, in their own hands: password, authenticator app, backup codes, passkeys.

Each change wants a proof that is at most `visit.RECENT` old, so that a borrowed browser changes nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from rempart.kernel.errors import BadInput, Conflict, Denied, NotFound, RempartError, Throttled, Unauthenticated

from .model import Changed, SignedIn
from .options import as_attribute, as_picture, in_groups
from .ports import OwnAccount, OwnFactors
from .visit import ACCOUNT, Door, Problem, Visit

SECURITY = ACCOUNT + "/security"
AUTHENTICATOR = ACCOUNT + "/authenticator"
PASSKEY = ACCOUNT + "/passkey"
PASSWORD = ACCOUNT + "/password"
_REFUSALS = (BadInput, Conflict, Denied, NotFound, Throttled, Unauthenticated)


@dataclass(frozen=True)
class SecurityPages:
    factors: OwnFactors
    account: OwnAccount

    def routes(self, door: Door) -> list[BaseRoute]:
        return [
            Route(SECURITY, door(self.overview), methods=["GET"]),
            Route(SECURITY, door(self.change), methods=["POST"]),
            Route(AUTHENTICATOR, door(self.set_up), methods=["GET"]),
            Route(AUTHENTICATOR, door(self.confirm), methods=["POST"]),
            Route(PASSKEY, door(self.name_passkey), methods=["GET"]),
            Route(PASSKEY, door(self.add_passkey), methods=["POST"]),
            Route(PASSWORD, door(self.ask_password), methods=["GET"]),
            Route(PASSWORD, door(self.change_password), methods=["POST"]),
        ]

    async def overview(self, visit: Visit) -> Response:
        return await self._overview(visit, visit.person())

    async def change(self, visit: Visit) -> Response:
        who, form = visit.person(recently=True), await visit.form()
        act = self._acts().get(form.get("do", ""))
        if act is None:
            raise BadInput("invalid_request", "this is not something that can be done here")
        try:
            return await act(visit, who, form)
        except _REFUSALS as error:
            return await self._overview(visit, who, error)

    def _acts(self) -> Mapping[str, Callable[[Visit, SignedIn, dict[str, str]], Awaitable[Response]]]:
        return {
            "remove_totp": self._remove_totp,
            "backup_codes": self._backup_codes,
            "rename_passkey": self._rename_passkey,
            "remove_passkey": self._remove_passkey,
        }

    async def set_up(self, visit: Visit) -> Response:
        return await self._set_up(visit, visit.person(recently=True))

    async def confirm(self, visit: Visit) -> Response:
        who, form = visit.person(recently=True), await visit.form()
        try:
            changed = await self.factors.confirm_totp(who, form.get("code", ""), visit.origin)
        except _REFUSALS as error:
            return await self._set_up(visit, who, error)
        return self._changed(visit, changed, "totp_added")

    async def name_passkey(self, visit: Visit) -> Response:
        return await self._passkey(visit, visit.person(recently=True))

    async def add_passkey(self, visit: Visit) -> Response:
        who, form = visit.person(recently=True), await visit.form()
        name = form.get("name", "").strip() or visit.texts.plain("passkey.unnamed")
        try:
            changed = await self.factors.add_passkey(who, name, form.get("passkey", ""), visit.origin)
        except _REFUSALS as error:
            return await self._passkey(visit, who, error, name)
        return self._changed(visit, changed, "passkey_added")

    async def ask_password(self, visit: Visit) -> Response:
        visit.person()
        return visit.show("account_password")

    async def change_password(self, visit: Visit) -> Response:
        who, form = visit.person(), await visit.form()
        if form.get("password", "") != form.get("repeated", ""):
            text = visit.texts.plain("error.passwords_differ")
            return visit.show("account_password", status=400, problems=[Problem("repeated", text)])
        try:
            changed = await self.account.change_password(
                who, form.get("current", ""), form.get("password", ""), visit.device, visit.origin
            )
        except _REFUSALS as error:
            if error.code == "login_failed":
                problems = [Problem("current", visit.texts.plain("error.wrong_password"))]
            else:
                problems = [visit.problem(error, "current" if isinstance(error, Throttled) else "password")]
            return visit.show("account_password", status=error.status, problems=problems)
        return self._changed(visit, changed, "password_changed")

    async def _remove_totp(self, visit: Visit, who: SignedIn, form: dict[str, str]) -> Response:
        return self._changed(visit, await self.factors.remove_totp(who, visit.origin), "totp_removed")

    async def _backup_codes(self, visit: Visit, who: SignedIn, form: dict[str, str]) -> Response:
        return self._changed(visit, await self.factors.new_backup_codes(who, visit.origin), "backup_codes")

    async def _rename_passkey(self, visit: Visit, who: SignedIn, form: dict[str, str]) -> Response:
        await self.factors.rename_passkey(
            who, visit.identifier(form.get("passkey_id", "")), form.get("name", ""), visit.origin
        )
        return visit.go(SECURITY + "?done=passkey_renamed")

    async def _remove_passkey(self, visit: Visit, who: SignedIn, form: dict[str, str]) -> Response:
        changed = await self.factors.remove_passkey(who, visit.identifier(form.get("passkey_id", "")), visit.origin)
        return self._changed(visit, changed, "passkey_removed")

    def _changed(self, visit: Visit, changed: Changed, done: str) -> Response:
        """Backup codes are in this very answer: nothing keeps them, so that no other page could show them."""
        visit.enter(changed.entered)
        if not changed.backup_codes:
            return visit.go(f"{SECURITY}?done={done}")
        return visit.show("backup_codes", codes=changed.backup_codes)

    async def _overview(self, visit: Visit, who: SignedIn, error: RempartError | None = None) -> Response:
        problems = [visit.problem(error)] if error else []
        status = error.status if error else 200
        return visit.show("account_security", status=status, problems=problems, factors=await self.factors.all(who))

    async def _set_up(self, visit: Visit, who: SignedIn, error: RempartError | None = None) -> Response:
        problems = [visit.problem(error, "code")] if error else []
        setup = await self.factors.begin_totp(who)
        return visit.show(
            "account_authenticator",
            status=error.status if error else 200,
            problems=problems,
            setup=setup,
            qr=as_picture(setup.svg),
            secret=in_groups(setup.secret),
        )

    async def _passkey(
        self, visit: Visit, who: SignedIn, error: RempartError | None = None, name: str = ""
    ) -> Response:
        return visit.show(
            "account_passkey",
            status=error.status if error else 200,
            problems=[visit.problem(error, "name")] if error else [],
            name=name,
            options=as_attribute(await self.factors.passkey_options(who)),
        )
