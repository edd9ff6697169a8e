"""The administrator's commands against the running process: import, invite, link, limit, erase, roles."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bcrypt
import httpx
import pytest
from argon2.low_level import Type, hash_secret_raw
from tests.integration.test_people import cli
from tests.people_process import GATEWAY, PeopleProcess
from tests.people_web import web
from tests.support import eventually, short_directory

PASSWORD = "a quiet river of glass 42"


@pytest.fixture(scope="module")
def people() -> Iterator[PeopleProcess]:
    with short_directory("rp") as directory:
        process = PeopleProcess(directory, {"roles": {"teller": {"permissions": ["till:open"], "manages": []}}})
        process.start()
        try:
            yield process
        finally:
            process.stop()
            process.close()


def login(people: PeopleProcess, email: str, password: str = PASSWORD, **more: str) -> httpx.Response:
    with people.client(**{"x-spiffe-id": GATEWAY, "x-forwarded-for": "203.0.113.7"}) as client:
        return client.post("/login", json={"email": email, "password": password, **more})


def run(people: PeopleProcess, *arguments: str, expected: int = 0) -> Any:
    code, document, message = cli(people, *arguments)
    assert code == expected, (arguments, document, message)
    return document


def outbox(people: PeopleProcess) -> list[Path]:
    """Mails with a link, the newest last; there are also notices that something was changed."""
    mails = (people.directory / "data" / "outbox").glob("*.eml")
    return sorted(mail for mail in mails if "?token=3D" in mail.read_text().replace("=\n", ""))


def link_of(mail: Path) -> str:
    text = mail.read_text().replace("=\n", "").replace("=3D", "=")
    found = re.search(r"\?token=([A-Za-z0-9_-]{43})", text)
    assert found, text
    return found[1]


def test_csv_is_tried_first_then_brought_in_then_left_alone(people: PeopleProcess) -> None:
    file = people.directory / "people.csv"
    file.write_text(
        "email,name,role,payment_limit,disabled,password\n"
        f'csv1@bank.example,"Lee, Ann",teller,700,,{PASSWORD}\n'
        "csv2@bank.example,,,,true,\n"
        "csv3@bank.example,,emperor,,,\n"
        "csv4@bank.example,,user,lots,,\n"
        "not an address,,user,,,\n"
        "csv5@bank.example,,user,,\n"
        "csv6@bank.example,,user,,,short\n"
    )
    tried = run(people, "user", "import", str(file), "--dry-run", expected=1)
    assert tried["counts"] == {"would_add": 2, "refused": 5}
    assert {one["place"] for one in tried["users"] if one["outcome"] == "refused"} == {
        f"people.csv:{line}" for line in (4, 5, 6, 7, 8)
    }
    assert run(people, "user", "list")["users"] == []
    done = run(people, "user", "import", str(file), expected=1)
    assert done["counts"] == {"added": 2, "refused": 5}
    added = {one["email"]: one for one in done["users"] if one["outcome"] == "added"}
    assert (added["csv1@bank.example"]["role"], added["csv1@bank.example"]["display_name"]) == ("teller", "Lee, Ann")
    assert added["csv2@bank.example"]["disabled"] is True
    assert "password" in added["csv2@bank.example"]
    assert login(people, "csv1@bank.example").status_code == 200
    again = run(people, "user", "import", str(file), expected=1)
    assert again["counts"] == {"exists": 2, "refused": 5}


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def credential(kind: str, secret: dict[str, Any], data: dict[str, Any]) -> dict[str, str]:
    """As `kc.sh export` writes one: both halves are JSON in a text."""
    return {"type": kind, "secretData": json.dumps(secret), "credentialData": json.dumps(data)}


def realm() -> dict[str, Any]:
    salt = b"0123456789abcdef"
    argon = hash_secret_raw(PASSWORD.encode(), salt, 5, 7168, 1, 32, Type.ID)
    argon_more = {"hashLength": ["32"], "memory": ["7168"], "type": ["id"], "version": ["1.3"], "parallelism": ["1"]}

    def pbkdf2(name: str, iterations: int) -> dict[str, str]:
        value = hashlib.pbkdf2_hmac(name, PASSWORD.encode(), salt, iterations, 64)
        data = {"hashIterations": iterations, "algorithm": f"pbkdf2-{name}", "additionalParameters": {}}
        return credential("password", {"value": b64(value), "salt": b64(salt), "additionalParameters": {}}, data)

    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    return {
        "realm": "shop",
        "users": [
            {
                "username": "kc1",
                "email": "KC1@bank.example",
                "firstName": "Ann",
                "lastName": "Lee",
                "enabled": True,
                "credentials": [pbkdf2("sha256", 27500)],
                "realmRoles": ["default-roles-shop", "staff", "admin"],
            },
            {"username": "kc2@bank.example", "enabled": False, "credentials": [pbkdf2("sha512", 21000)]},
            {
                "username": "kc3",
                "email": "kc3@bank.example",
                "credentials": [
                    credential(
                        "password",
                        {"value": b64(argon), "salt": b64(salt), "additionalParameters": {}},
                        {"hashIterations": 5, "algorithm": "argon2", "additionalParameters": argon_more},
                    ),
                    credential("webauthn", {}, {"aaguid": "x"}),
                ],
                "realmRoles": ["treasurer"],
            },
            {
                "username": "kc4",
                "email": "kc4@bank.example",
                "credentials": [
                    credential("password", {"value": hashed, "salt": ""}, {"hashIterations": 4, "algorithm": "bcrypt"}),
                    credential(
                        "otp",
                        {"value": "12345678901234567890"},
                        {"subType": "totp", "digits": 6, "period": 30, "counter": 0, "algorithm": "HmacSHA1"},
                    ),
                ],
            },
            {
                "username": "kc5",
                "email": "kc5@bank.example",
                "credentials": [credential("password", {"value": "!", "salt": "!"}, {"algorithm": "md5"}), "nonsense"],
            },
            {"username": "no-address"},
            {"username": "service-account-x", "serviceAccountClientId": "x"},
        ],
    }


def test_a_keycloak_realm_brings_its_passwords_and_no_namesake_its_power(people: PeopleProcess) -> None:
    file = people.directory / "realm.json"
    file.write_text(json.dumps(realm()))
    command = ("user", "import", str(file), "--keycloak", "--map", "staff=teller", "--map", "treasurer=finance")
    done = run(people, *command, expected=1)
    assert done["counts"] == {"added": 5, "refused": 2}
    roles = {one["email"]: one["role"] for one in done["users"] if one["outcome"] == "added"}
    assert roles == {
        "kc1@bank.example": "teller",
        "kc2@bank.example": "user",
        "kc3@bank.example": "finance",
        "kc4@bank.example": "user",
        "kc5@bank.example": "user",
    }
    assert {note["place"] for note in done["notes"]} == {"kc3", "kc5"}
    assert login(people, "kc1@bank.example").status_code == 200
    assert login(people, "kc1@bank.example").status_code == 200  # with our own hash by now
    assert login(people, "kc1@bank.example", PASSWORD + "!").status_code == 401
    assert login(people, "kc3@bank.example").status_code == 401  # disabled: their passkey can't come along
    run(people, "user", "enable", "kc3@bank.example")
    assert login(people, "kc3@bank.example").status_code == 200
    assert login(people, "kc2@bank.example").status_code == 401  # disabled
    assert login(people, "kc4@bank.example").status_code == 401  # without its one-time code
    assert login(people, "kc4@bank.example", otp=pyotp_code(b"12345678901234567890")).status_code == 200
    assert run(people, *command, expected=1)["counts"] == {"exists": 5, "refused": 2}


def pyotp_code(secret: bytes) -> str:
    import pyotp

    return pyotp.TOTP(base64.b32encode(secret).decode()).now()


@pytest.mark.parametrize("text", ["", "[]", '{"realm": "x"}', '{"users": [7]}', "{" * 100_000])
def test_what_is_no_realm_is_refused(people: PeopleProcess, text: str) -> None:
    file = people.directory / "realm.json"
    file.write_text(text)
    run(people, "user", "import", str(file), "--keycloak", expected=2)


def test_who_is_invited_chooses_a_password_by_the_link_in_the_mail(people: PeopleProcess) -> None:
    made = run(people, "user", "add", "--email", "inv@bank.example", "--role", "user", "--invite", "--language", "fr")
    assert "password" not in made
    mail = outbox(people)[-1]
    assert "/auth/invitation" in mail.read_text().replace("=\n", "")
    token = link_of(mail)
    assert mail.stat().st_mode & 0o777 == 0o600
    told = people.log() + json.dumps(people.journal())
    assert token not in told
    sent = [event for event in people.journal() if event["type"] == "people.link_sent"]
    assert sent[-1]["details"]["link"] == "invite"
    run(people, "user", "link", "inv@bank.example")
    eventually(lambda: outbox(people)[-1] != mail)
    assert link_of(outbox(people)[-1]) != token


def fill(browser: httpx.Client, path: str, **fields: str) -> httpx.Response:
    """Read a page's form and send it filled in, as a browser would."""
    page = browser.get(path)
    assert page.status_code == 200, page.text
    hidden = re.findall(r'<input type="hidden" name="([a-z_]+)" value="([^"]*)"', page.text)
    return browser.post(path, data={**dict(hidden), **fields}, headers={"origin": "https://localhost:8443"})


def test_from_the_mail_through_the_pages_to_a_new_password(people: PeopleProcess) -> None:
    fresh = "another slow lantern by the sea 7"
    run(people, "user", "add", "--email", "web@bank.example", "--role", "user", "--invite")
    invitation = f"/auth/invitation?token={link_of(outbox(people)[-1])}"
    with web(people) as browser:
        assert fill(browser, invitation, password="short", repeated="short").status_code == 400
        assert fill(browser, invitation, password=PASSWORD, repeated=PASSWORD).status_code == 303
        assert browser.get(invitation).status_code == 404
    assert login(people, "web@bank.example").status_code == 200
    before = len(outbox(people))
    with web(people) as browser:
        answers = [fill(browser, "/auth/forgot", email=email) for email in ("web@bank.example", "nobody@bank.example")]
        assert [(a.status_code, a.headers["location"]) for a in answers] == [(303, "/auth/forgot/sent")] * 2
        eventually(lambda: len(outbox(people)) == before + 1)
        reset = f"/auth/reset?token={link_of(outbox(people)[-1])}"
        assert fill(browser, reset, password=fresh, repeated=fresh).status_code == 303
        assert browser.get(reset).status_code == 404
    assert login(people, "web@bank.example").status_code == 401
    assert login(people, "web@bank.example", fresh).status_code == 200


def test_limits_roles_factors_and_erasing(people: PeopleProcess) -> None:
    run(people, "user", "add", "--email", "lim@bank.example", "--role", "user")
    assert run(people, "user", "limit", "lim@bank.example", "500")["payment_limit"] == 500
    assert run(people, "user", "limit", "lim@bank.example", "none")["payment_limit"] is None
    run(people, "user", "limit", "lim@bank.example", "lots", expected=2)
    assert run(people, "role", "show", "teller") == {"name": "teller", "permissions": ["till:open"], "manages": []}
    run(people, "role", "show", "emperor", expected=1)
    assert len(run(people, "role", "list")["roles"]) == 8
    assert run(people, "user", "reset-factors", "lim@bank.example")["second_factor"] is False
    user = run(people, "user", "show", "lim@bank.example")["id"]
    erased = run(people, "user", "erase", "lim@bank.example")
    assert (erased["id"], erased["disabled"], erased["display_name"]) == (user, True, "erased")
    run(people, "user", "show", "lim@bank.example", expected=1)
    run(people, "user", "enable", user, expected=1)
    run(people, "user", "add", "--email", "lim@bank.example", "--role", "user")
