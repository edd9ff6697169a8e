"""Raising oneself: SCIM without its scope, one's own role, the last administrator, tokens of an older epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from .model import Actor, Alert, Attack, Outcome, Trace, blocked, got_through, not_tried
from .registered import Registered, having, pkce
from .scene import Scene, Session
from .site import Site
from .wire import Reply

_SCIM = "/auth/scim/v2"
_ENDS_WITHIN = 8.0  # seconds


def attacks() -> Iterator[Attack]:
    yield Attack(
        "E-scim-anonymous",
        Actor.OUTSIDER,
        "SCIM without a token",
        "every SCIM route and method, bare and with odd authorization",
        "401 or 403",
        _scim_anonymous,
        Alert.DENY_BURST,
    )
    for role in ("user", "finance", "audit", "devops"):
        yield Attack(
            f"E-scim-as-{role}",
            Actor.INSIDER,
            f"SCIM as {role}",
            "reading, creating and changing people with a valid token of another role",
            "401, 403 or 404",
            _scim_as(role),
            Alert.DENY_BURST,
        )
    yield Attack(
        "E-scim-client",
        Actor.OUTSIDER,
        "SCIM by a client without its scope",
        "a client's own token, and one of a person who signed in there",
        "401 or 403",
        having(_scim_client),
    )
    yield Attack(
        "E-administration-as-user",
        Actor.STOLEN_TOKEN,
        "The administration's API as a person",
        "users, roles, clients and keys below /auth with a user's token and session",
        "401, 403 or 404",
        _administration,
    )
    yield Attack(
        "E-role-self",
        Actor.INSIDER,
        "Raising one's own role",
        "role, roles, permissions and limit in every form and API that one may use for oneself",
        "the role stays",
        having(_role_self),
        alone=True,
    )
    yield Attack(
        "E-own-role-admin",
        Actor.INSIDER,
        "An administrator changes their own role",
        "the own role and limit by PATCH",
        "403 or 409",
        _own_role,
        needs=("/users",),
    )
    yield Attack(
        "D-last-admin",
        Actor.INSIDER,
        "The last administrator removed",
        "the only administrator disabled by PATCH",
        "403 or 409",
        _last_admin,
        needs=("/users",),
        alone=True,
    )
    yield Attack(
        "E-old-epoch",
        Actor.STOLEN_TOKEN,
        "A token of before a role change",
        "access token, refresh token and browser session of somebody whose role just changed",
        "refused within seconds",
        having(_old_epoch),
        alone=True,
    )
    yield Attack(
        "S-disabled",
        Actor.STOLEN_TOKEN,
        "A disabled person goes on",
        "access token, refresh token and browser session of somebody who was just disabled",
        "refused within seconds",
        having(_disabled),
        alone=True,
    )


def _scim_anonymous(scene: Scene) -> Outcome:
    reply = Reply(0)
    for path in ("/Users", "/Groups", "/Users/x", "/Me", "/Bulk", "/.search"):
        for method in ("GET", "POST", "PATCH", "PUT", "DELETE"):
            for more in ((), (("Authorization", "Bearer x"),), (("Authorization", "Basic YWRtaW46YWRtaW4="),)):
                reply = scene.ask(method, _SCIM + path, (("Content-Type", "application/scim+json"), *more), b"{}")
                if reply.status not in (400, 401, 403, 404, 405, 501):
                    return got_through(f"{method} {path}: {reply.said}", reply.evidence)
    return blocked(reply.said, "people: SCIM", reply.evidence)


def _scim(scene: Scene, token: str) -> tuple[str, Reply] | None:
    """What a token could do there, or None."""
    bearer = ("Authorization", f"Bearer {token}")
    admin = scene.account("admin").user_id
    schema = ["urn:ietf:params:scim:schemas:core:2.0:User"]
    patch = {
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
        "Operations": [{"op": "replace", "path": "active", "value": False}],
    }
    for method, path, body in (
        ("GET", "/Users", None),
        ("GET", f"/Users/{admin}", None),
        ("GET", "/Groups", None),
        ("POST", "/Users", {"schemas": schema, "userName": "raised@evil.example", "roles": [{"value": "admin"}]}),
        ("PATCH", f"/Users/{admin}", patch),
        ("DELETE", f"/Users/{admin}", None),
    ):
        reply = (
            scene.send(method, _SCIM + path, body, None, bearer) if body else scene.ask(method, _SCIM + path, (bearer,))
        )
        if reply.status not in (400, 401, 403, 404, 405):
            return f"{method} {path.rpartition('/')[0] or path}", reply
    return None


def _scim_as(role: str) -> Callable[[Scene], Outcome]:
    def run(scene: Scene) -> Outcome:
        session = scene.session(role)
        if (through := _scim(scene, session.access_token)) is not None:
            return got_through(f"{through[0]}: {through[1].said}", through[1].evidence)
        reply = scene.get(_SCIM + "/Users", session)
        return blocked(reply.said, "people: SCIM", reply.evidence)

    return run


def _scim_client(made: Registered) -> Outcome:
    machine = made.token({"grant_type": "client_credentials"}, "own")
    if machine.status != 200:
        return not_tried(f"the client's own token: {machine.said}")
    person = made.tokens(made.browser("admin"))["access_token"]
    for token in (machine.json["access_token"], person):
        if (through := _scim(made.scene, token)) is not None:
            return got_through(f"{through[0]}: {through[1].said}", through[1].evidence)
    return blocked("refused", "people: SCIM", machine.evidence)


def _administration(scene: Scene) -> Outcome:
    who, reply = scene.session("user"), Reply(0)
    for path in (
        "/auth/admin/users",
        "/auth/users",
        "/auth/roles",
        "/auth/clients",
        "/auth/keys",
        "/auth/keys/rotate",
        "/auth/admin",
        "/auth/accounts",
        "/accounts",
        "/auth/administration/users",
        "/clients",
        "/keys",
    ):
        for method in ("GET", "POST", "PATCH", "DELETE"):
            reply = scene.send(method, path, {}, who)
            if reply.status not in (400, 401, 403, 404, 405):
                return got_through(f"{method} {path}: {reply.said}", reply.evidence)
    return blocked(reply.said, "people: administration", reply.evidence)


def _role_self(made: Registered) -> Outcome:
    scene, account = made.scene, made.changing
    more = {"role": "admin", "roles": "admin", "payment_limit": "999999999", "permissions": "*", "is_admin": "true"}
    site = made.browser("user", 1)
    for path in ("/auth/account", "/auth/account/security"):
        site.open(path)
        for form in site.forms:
            if form.fields and not any(word in form.action for word in ("sign-out", "revoke", "remove", "delete")):
                site.ask("POST", form.action or path, {**form.fields, **more})
    session = scene.login(account)
    for method, path in (
        ("PATCH", f"{_SCIM}/Users/{account.user_id}"),
        ("PUT", f"{_SCIM}/Me"),
        ("PATCH", f"{_SCIM}/Me"),
        ("PATCH", "/auth/userinfo"),
        ("PATCH", "/auth/account"),
        ("PATCH", f"/users/{account.user_id}"),
    ):
        reply = scene.send(method, path, {"role": "admin", "roles": [{"value": "admin"}]}, session)
        if reply.status < 400 or reply.status >= 500:
            return got_through(f"{method} {path}: {reply.said}", reply.evidence)
    for who in (scene.account("user", 1), account):
        fresh = scene.get("/auth/userinfo", scene.login(who))
        role = fresh.json.get("role") if isinstance(fresh.json, dict) else None
        if role not in ("user", None):
            return got_through(f"the role is {role}", fresh.evidence)
    return blocked(f"{reply.said}; still user", "people: roles are given by administrators", reply.evidence)


def _own_role(scene: Scene) -> Outcome:
    admin = scene.session("admin")
    for change in ({"role": "finance"}, {"role": "audit"}):
        reply = scene.send("PATCH", f"/users/{admin.id}", change, admin)
        if reply.status not in (403, 409, 422):
            return got_through(f"{change}: {reply.said}", reply.evidence)
    return blocked(reply.said, "people: nobody changes their own role", reply.evidence)


def _last_admin(scene: Scene) -> Outcome:
    admin = scene.session("admin")
    reply = scene.send("PATCH", f"/users/{admin.id}", {"disabled": True}, admin)
    after = scene.get("/users", admin)
    if reply.status not in (403, 409, 422) or after.status != 200:
        return got_through(f"{reply.said}, then {after.said}", reply.evidence)
    return blocked(reply.said, "people: an administrator remains", reply.evidence)


def _ended(made: Registered, change: list[str]) -> Outcome:
    """`change` by the operator ends what `changing` held before: token, refresh token, browser session."""
    scene, account, operator = made.scene, made.changing, made.scene.means.operator
    if operator is None:
        return not_tried("nobody changes accounts")
    session = scene.login(account)
    site = _browser(made)
    if scene.get("/auth/userinfo", session).status != 200:
        return not_tried("the token was no good before")
    operator(change, "")
    deadline = time.monotonic() + _ENDS_WITHIN
    while True:
        asked = time.monotonic()
        left = _left(made, session, site)
        if not left:
            return blocked(
                "refused everywhere", "epoch of the account", Trace(("people.role_changed", "people.account_changed"))
            )
        if asked > deadline:
            return got_through(f"still good after {_ENDS_WITHIN:.0f} s: {', '.join(left)}")
        time.sleep(0.3)


def _browser(made: Registered) -> Site:
    site = Site(made.scene)
    _, challenge = pkce()
    at = site.sign_in(made.request(code_challenge=challenge), made.changing.email, made.changing.password)
    if not at:
        raise ValueError(f"the owner could not sign in: {site.page.said}")
    return site


def _left(made: Registered, session: Session, site: Site) -> list[str]:
    """What is still good. The refresh token is tried once the access token is dead: trying uses it up."""
    _, challenge = pkce()
    request = made.request(prompt="none", code_challenge=challenge)
    silent = site.ask("GET", request)
    left = []
    if made.scene.get("/auth/userinfo", session).status != 401:
        left.append("access token at people")
    if made.scene.get("/auth/account/data", session).status < 300:
        left.append("account data")
    if "code=" in silent.headers.get("location", ""):
        left.append("browser session")
    path = "/wallet?user_id=" + session.id
    if not made.scene.lacks(("/wallet",)) and made.scene.get(path, session).status not in (401, 403):
        left.append("access token at a service")
    if not left and made.refresh(session.refresh_token, "").status == 200:
        left.append("refresh token")
    return left


def _old_epoch(made: Registered) -> Outcome:
    return _ended(made, ["user", "role", made.changing.email, "customer"])


def _disabled(made: Registered) -> Outcome:
    operator = made.scene.means.operator
    outcome = _ended(made, ["user", "disable", made.changing.email])
    if operator is not None:
        operator(["user", "enable", made.changing.email], "")
    return outcome
