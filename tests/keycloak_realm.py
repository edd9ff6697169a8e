"""The realm that the import is held to, made in a real Keycloak as its own people would make it.

`python -m tests.keycloak_realm` makes the recorded exports below `tests/vectors/keycloak` again (a minute). Every
secret in them was made for this and opens nothing.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import html
import json
import re
import shutil
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import pyotp
from tests.integration.test_people import cli
from tests.keycloak import Keycloak, unpacked
from tests.people_process import GATEWAY, PeopleProcess

REALM = "harbour"
RECORDED = Path(__file__).parent / "vectors" / "keycloak"
PASSWORD = "a quiet river of glass 7"  # of everybody
HASHES = {"pbkdf2-sha256": 27500, "pbkdf2-sha512": 210000, "argon2": 5}
POLICY = {
    "otpPolicyType": "totp",  # without it Keycloak ignores the rest
    "otpPolicyAlgorithm": "HmacSHA1",
    "otpPolicyDigits": 6,
    "otpPolicyPeriod": 30,
    "otpPolicyInitialCounter": 0,
    "otpPolicyLookAheadWindow": 1,
}
ROLES = {
    "by-pbkdf2-sha256": "user",
    "by-pbkdf2-sha512": "user",
    "by-argon2": "user",
    "by-composite": "user",
    "by-group": "finance",
    "by-client": "devops",
    "changed-it": "user",
    "disabled": "user",
    "in.capitals": "customer",
    "no-password": "customer",
    "temporary": "customer",
    "with-totp": "finance",
    "with-totp-sha256": "finance",
    "with-totp-8-digits": "finance",
}
OUT = {"disabled", "with-totp-sha256", "with-totp-8-digits"}  # the latter two: codes of a kind that we don't take
_CALLBACK = "http://127.0.0.1:9/callback"


def make(keycloak: Keycloak) -> dict[str, str]:
    """The realm, its clients, groups, roles and people. The answer: BASE32 secrets of one-time codes by user name."""
    secrets: dict[str, str] = {}
    with keycloak.running() as http:
        _ok(http.post("/admin/realms", json=_realm()))
        for name, iterations in HASHES.items():
            policy = f"hashAlgorithm({name}) and hashIterations({iterations})"
            _ok(http.put(f"/admin/realms/{REALM}", json={"realm": REALM, "passwordPolicy": policy}))
            _person(http, f"by-{name}", realm_roles=("staff",))
        _ok(http.put(f"/admin/realms/{REALM}", json={"realm": REALM, "passwordPolicy": "passwordHistory(3)"}))
        _person(http, "disabled", realm_roles=("staff",))
        _person(http, "In.Capitals", email="In.Capitals@Harbour.Example", firstName="Zoë", lastName="O'Neil-Ångström")
        _person(http, "by-group", groups=("/money/treasury",))
        _person(http, "by-composite", realm_roles=("head-of-staff",))
        _person(http, "by-client", client_roles={"shop": ("manager",)})
        _person(http, "temporary", temporary=True)
        _person(http, "no-address", email="")
        _person(http, "no-password", password="")
        _person(http, "changed-it", password="an older password of mine 1", realm_roles=("staff",))
        _set_password(http, "changed-it", PASSWORD)
        for name, policy in (
            ("with-totp", POLICY),
            ("with-totp-sha256", POLICY | {"otpPolicyAlgorithm": "HmacSHA256"}),
            ("with-totp-8-digits", POLICY | {"otpPolicyDigits": 8}),
        ):
            _ok(http.put(f"/admin/realms/{REALM}", json={"realm": REALM, **policy}))
            _person(http, name, realm_roles=("treasurer",), requiredActions=["CONFIGURE_TOTP"])
            secrets[name] = _configure_totp(keycloak.url, f"{name}@harbour.example", policy)
        _ok(http.put(f"/admin/realms/{REALM}", json={"realm": REALM, **POLICY}))
        _update(http, "disabled", enabled=False)
    return secrets


def _realm() -> dict[str, Any]:
    return {
        "realm": REALM,
        "enabled": True,
        "sslRequired": "none",
        "loginWithEmailAllowed": True,
        "roles": {
            "realm": [
                {"name": "staff"},
                {"name": "treasurer"},
                {"name": "head-of-staff", "composite": True, "composites": {"realm": ["staff"]}},
            ],
            "client": {"shop": [{"name": "manager"}]},
        },
        "groups": [{"name": "money", "subGroups": [{"name": "treasury", "realmRoles": ["treasurer"]}]}],
        "clients": [
            {"clientId": "shop", "secret": "shop-secret-of-a-test", "redirectUris": ["https://shop.example/callback"]},
            {"clientId": "page", "publicClient": True, "redirectUris": [_CALLBACK], "standardFlowEnabled": True},
            {"clientId": "robot", "secret": "robot-secret-of-a-test", "serviceAccountsEnabled": True},
        ],
    }


def _person(
    http: httpx.Client,
    name: str,
    *,
    email: str | None = None,
    password: str = PASSWORD,
    temporary: bool = False,
    realm_roles: tuple[str, ...] = (),
    client_roles: Mapping[str, tuple[str, ...]] | None = None,
    **more: Any,
) -> None:
    """Roles are given as an administrator does, one call each: Keycloak ignores them in a new user's document."""
    document = {"username": name, "enabled": True, "firstName": "Person", "lastName": name, "emailVerified": True}
    document["email"] = f"{name}@harbour.example" if email is None else email
    _ok(http.post(f"/admin/realms/{REALM}/users", json={**document, **more}))
    user = _id(http, name)
    if password:
        _set_password(http, name, password, temporary=temporary)
    roles = [_ok(http.get(f"/admin/realms/{REALM}/roles/{role}")).json() for role in realm_roles]
    _ok(http.post(f"/admin/realms/{REALM}/users/{user}/role-mappings/realm", json=roles))
    for client, names in (client_roles or {}).items():
        found = _ok(http.get(f"/admin/realms/{REALM}/clients", params={"clientId": client})).json()[0]["id"]
        theirs = [_ok(http.get(f"/admin/realms/{REALM}/clients/{found}/roles/{role}")).json() for role in names]
        _ok(http.post(f"/admin/realms/{REALM}/users/{user}/role-mappings/clients/{found}", json=theirs))


def _set_password(http: httpx.Client, name: str, password: str, *, temporary: bool = False) -> None:
    credential = {"type": "password", "value": password, "temporary": temporary}
    _ok(http.put(f"/admin/realms/{REALM}/users/{_id(http, name)}/reset-password", json=credential))


def _update(http: httpx.Client, name: str, **more: Any) -> None:
    path = f"/admin/realms/{REALM}/users/{_id(http, name)}"
    _ok(http.put(path, json=_ok(http.get(path)).json() | more))


def _id(http: httpx.Client, name: str) -> str:
    users = _ok(http.get(f"/admin/realms/{REALM}/users", params={"username": name, "exact": True})).json()
    return str(users[0]["id"])


def _configure_totp(url: str, email: str, policy: Mapping[str, Any]) -> str:
    """Sign in by the pages and set up an app, as Keycloak asks. The answer: the secret, in BASE32."""
    with httpx.Client(follow_redirects=False, timeout=60) as browser:
        asked = {"response_type": "code", "client_id": "page", "redirect_uri": _CALLBACK, "scope": "openid"}
        browser.event_hooks["response"] = [lambda _: _as_browsers_do(browser)]
        page = _follow(browser, browser.get(f"{url}/realms/{REALM}/protocol/openid-connect/auth", params=asked))
        page = _follow(browser, browser.post(_action(page), data={"username": email, "password": PASSWORD}))
        found = re.search(r'name="totpSecret" value="([^"]+)"', page.text)
        assert found, page.text[:3000]
        secret = html.unescape(found[1])
        digest = {"HmacSHA1": hashlib.sha1, "HmacSHA256": hashlib.sha256}[policy["otpPolicyAlgorithm"]]
        base32 = base64.b32encode(secret.encode()).decode().rstrip("=")
        code = pyotp.TOTP(base32, digits=policy["otpPolicyDigits"], digest=digest).now()
        form = {"totp": code, "totpSecret": secret, "userLabel": "phone"}
        page = _follow(browser, browser.post(_action(page), data=form))
        assert "code=" in page.headers.get("location", ""), page.text[:3000]
        return base32


def _as_browsers_do(browser: httpx.Client) -> None:
    """A loopback address is a secure context: cookies marked Secure are sent there over plain HTTP."""
    for cookie in browser.cookies.jar:
        cookie.secure = False


def _action(page: httpx.Response) -> str:
    found = re.search(r'<form[^>]* action="([^"]+)"', page.text)
    assert found, page.text[:3000]
    return html.unescape(found[1])


def _follow(browser: httpx.Client, answer: httpx.Response) -> httpx.Response:
    while answer.is_redirect and not answer.headers["location"].startswith(_CALLBACK):
        answer = browser.get(urljoin(str(answer.url), answer.headers["location"]))
    return answer


def _ok(answer: httpx.Response) -> httpx.Response:
    assert answer.is_success, (answer.request.url, answer.status_code, answer.text[:500])
    return answer


def brought(people: PeopleProcess, export: Path, secrets: Mapping[str, str]) -> None:
    """Import `export` and sign its people in: who got in before gets in, as what they were, and nobody else."""
    command = ("user", "import", str(export), "--keycloak", "--role", "customer")
    mapping = ("--map", "treasurer=finance", "--map", "staff=user", "--map", "shop/manager=devops")
    code, done, message = cli(people, *command, *mapping)
    assert code == 1, (done, message)  # two can't be used
    assert done["counts"] == {"added": 14, "refused": 2}, done
    refused = {entry["place"] for entry in done["users"] if entry["outcome"] == "refused"}
    assert refused == {"no-address", "service-account-robot"}
    added = {entry["email"].partition("@")[0]: entry for entry in done["users"] if entry["outcome"] == "added"}
    assert {name: entry["role"] for name, entry in added.items()} == ROLES
    assert {name for name, entry in added.items() if entry["disabled"]} == OUT
    assert {name for name, entry in added.items() if "password" in entry} == {"no-password", "temporary"}
    assert added["in.capitals"]["display_name"] == "Zoë O'Neil-Ångström"
    for name in sorted(ROLES):
        right = 401 if name in OUT | {"no-password", "temporary", "with-totp"} else 200
        for _ in "of Keycloak", "then of our own":
            assert _login(people, name).status_code == right, name
        assert _login(people, name, "an older password of mine 1").status_code == 401, name
    code_now = pyotp.TOTP(secrets["with-totp"]).now()
    assert _login(people, "with-totp", otp=code_now).status_code == 200
    assert _login(people, "with-totp", otp=code_now).status_code == 401  # each once
    assert _login(people, "In.Capitals").status_code == 200
    with contextlib.closing(sqlite3.connect(people.directory / "data" / "people.db")) as database:
        rows = database.execute("SELECT email, password_hash LIKE '$argon2id$v=19$m=19456,%' FROM accounts").fetchall()
    ours = {email.partition("@")[0] for email, renewed in rows if renewed}
    assert ours == set(ROLES) - OUT, "hashed our own way by now"
    code, done, _ = cli(people, *command, *mapping)
    assert (code, done["counts"]) == (1, {"exists": 14, "refused": 2})


def _login(people: PeopleProcess, name: str, password: str = PASSWORD, **more: str) -> httpx.Response:
    """Each from an address of its own: no limit meant for one of them stands in for what is tried."""
    where = f"203.0.113.{sorted(ROLES).index(name.lower()) + 1}"
    with people.client(**{"x-spiffe-id": GATEWAY, "x-forwarded-for": where}) as client:
        return client.post("/login", json={"email": f"{name}@harbour.example", "password": password, **more})


def record(where: Path = RECORDED) -> None:
    with unpacked() as keycloak:
        secrets = make(keycloak)
        shutil.rmtree(where, ignore_errors=True)
        where.mkdir(parents=True)
        keycloak.export(REALM, "--file", str(where / "realm.json"))
        keycloak.export(REALM, "--dir", str(where / "files"), "--users", "different_files", "--users-per-file", "5")
        for file in (where / "realm.json", where / "files" / f"{REALM}-realm.json"):
            document = json.loads(file.read_text())
            document["components"].pop("org.keycloak.keys.KeyProvider")  # the realm's private keys: nobody needs them
            file.write_text(json.dumps(document, indent=1) + "\n")
        (where / "secrets.json").write_text(json.dumps(secrets, indent=2) + "\n")


if __name__ == "__main__":
    record()
