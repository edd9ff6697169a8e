"""`rempart client` against the real people process, and what was registered at work there."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.keycloak_realm import RECORDED
from tests.oauth_support import ASSERTION, basic, jws
from tests.people_process import PeopleProcess

from rempart.crypto.jose import SigningKey
from rempart.kernel.clock import SystemClock
from rempart.kernel.ids import new_id

ISSUER = "https://localhost:8443/auth"


@pytest.fixture(scope="module")
def people() -> Iterator[PeopleProcess]:
    with tempfile.TemporaryDirectory(prefix="rp-") as directory:
        process = PeopleProcess(Path(directory))
        try:
            process.start()
            yield process
            process.stop()
        finally:
            process.close()


def client(people: PeopleProcess, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
    """The exit status, stdout and stderr of `rempart client …`."""
    return run(*arguments, "--state", str(people.directory), stdin=stdin)


def run(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
    command = [sys.executable, "-c", "from rempart.cli.main import main; main()", "client", *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def as_json(people: PeopleProcess, *arguments: str, stdin: str = "") -> dict[str, Any]:
    status, out, err = client(people, *arguments, "--json", stdin=stdin)
    assert status == 0, err
    document: dict[str, Any] = json.loads(out)
    return document


def token(people: PeopleProcess, headers: dict[str, str] | None = None, **form: str) -> tuple[int, dict[str, Any]]:
    with people.client() as api:
        answer = api.post("/auth/token", data={"grant_type": "client_credentials", **form}, headers=headers)
        return answer.status_code, answer.json()


def test_a_secret_is_made_printed_once_and_works(people: PeopleProcess) -> None:
    made = as_json(people, "add", "svc", "--scope", "read write")
    assert len(made["secret"]) == 43
    assert (made["method"], made["grants"], made["scopes"]) == (
        "client_secret_basic",
        ["client_credentials"],
        ["read", "write"],
    )
    assert token(people, basic("svc", made["secret"]))[0] == 200
    assert "secret" not in as_json(people, "show", "svc")
    status, out, err = client(people, "add", "other")
    assert status == 0
    assert len(out.strip().splitlines()[-1]) == 43
    assert "shown only now" in err
    assert made["secret"] not in people.log()
    changes = [event for event in people.journal() if event["type"] == "people.client_changed"]
    assert changes[0]["after"]["id"] == "svc"
    assert changes[0]["operator"].startswith("uid:")
    assert not any(made["secret"] in json.dumps(event) for event in people.journal())


def test_a_secret_comes_from_stdin_and_never_from_arguments(people: PeopleProcess) -> None:
    secret = "a secret of somebody's own choice"
    assert "secret" not in as_json(people, "add", "chosen", "--secret-stdin", stdin=f"{secret}\n")
    assert token(people, client_id="chosen", client_secret=secret)[0] == 200
    for stdin in ("", "short\n"):
        status, out, err = client(people, "add", "weak", "--secret-stdin", stdin=stdin)
        assert (status, out) == (2, "")
        assert "secret" in err


def test_a_key_registers_without_its_private_part(people: PeopleProcess, tmp_path: Path) -> None:
    key = SigningKey.generate("ES256")
    for name, document in (("one", key.public_jwk()), ("set", {"keys": [key.public_jwk()]})):
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(document))
        assert as_json(people, "add", name, "--jwk", str(file))["method"] == "private_key_jwt"
        now = int(SystemClock().now())
        claims = {"iss": name, "sub": name, "aud": ISSUER, "jti": new_id("jti"), "exp": now + 60}
        assertion = jws(key, {"alg": "ES256"}, claims)
        assert token(people, client_assertion=assertion, client_assertion_type=ASSERTION)[0] == 200
    private = tmp_path / "private.json"
    private.write_text(json.dumps(key.dump()))
    for wrong in (str(private), str(tmp_path / "none.json"), str(tmp_path)):
        assert client(people, "add", "wrong", "--jwk", wrong)[0] == 2


def test_a_certificate_registers_by_its_thumbprint(people: PeopleProcess, tmp_path: Path) -> None:
    pem = tmp_path / "client.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
         "-subj", "/CN=client", "-keyout", str(tmp_path / "key.pem"), "-out", str(pem)],
        check=True, capture_output=True,
    )  # fmt: skip
    made = as_json(people, "add", "tls", "--cert", str(pem), "--mtls-bound")
    assert (made["method"], len(made["certificate"]), made["certificate_bound"]) == (
        "self_signed_tls_client_auth",
        43,
        True,
    )
    assert client(people, "add", "tls2", "--cert", str(tmp_path / "key.pem"))[0] == 2


def test_public_list_show_delete_and_the_exit_codes(people: PeopleProcess) -> None:
    made = as_json(
        people, "add", "app", "--public", "--name", "An app", "--redirect-uri", "https://app.example/cb",
        "--redirect-uri", "com.example.app:/cb", "--post-logout-redirect-uri", "https://app.example/bye",
        "--backchannel-logout-uri", "https://app.example/logout", "--access-ttl", "300", "--consent", "--dpop",
    )  # fmt: skip
    assert (made["method"], made["grants"]) == ("none", ["authorization_code", "refresh_token"])
    assert (made["access_ttl"], made["consent"], made["dpop_bound"], "secret" in made) == (300, True, True, False)
    assert "app" in [entry["id"] for entry in as_json(people, "list")["clients"]]
    assert "https://app.example/cb" in client(people, "show", "app")[1]
    assert client(people, "add", "app", "--public", "--redirect-uri", "https://app.example/cb")[0] == 1
    assert client(people, "add", "x", "--public", "--secret-stdin")[0] == 2
    assert client(people, "add", "x", "--grant", "implicit")[0] == 2
    assert client(people, "add", "x", "--redirect-uri", "http://app.example/")[0] == 2
    assert as_json(people, "delete", "app")["id"] == "app"
    assert client(people, "show", "app")[0] == 1
    assert client(people, "delete", "app")[0] == 1
    with tempfile.TemporaryDirectory() as empty:
        assert run("list", "--state", empty)[0] == 3


def test_the_algorithm_of_id_tokens_is_chosen_per_client(people: PeopleProcess) -> None:
    site = ("--redirect-uri", "https://app.example/cb")
    assert as_json(people, "add", "signs", *site, "--id-token-alg", "ES256")["id_token_signed_response_alg"] == "ES256"
    assert client(people, "delete", "signs")[0] == 0
    status, _, err = client(people, "add", "weak", *site, "--id-token-alg", "HS256")
    assert (status, "RS256, ES256, EdDSA" in err) == (2, True)


def test_a_keycloak_realms_clients_are_tried_then_brought_in_then_left_alone(people: PeopleProcess) -> None:
    export = str(RECORDED / "realm.json")
    tried = as_json(people, "import", export, "--dry-run")
    assert tried["counts"] == {"would_be_created": 3}
    done = as_json(people, "import", export)
    assert done["counts"] == {"created": 3}
    assert token(people, basic("robot", "robot-secret-of-a-test"))[0] == 200
    assert as_json(people, "import", export)["counts"] == {"exists": 3}
    status, _, err = client(people, "import", str(RECORDED / "files"))
    assert (status, "exists" in err) == (0, True)
    with tempfile.TemporaryDirectory() as directory:
        odd = Path(directory) / "realm.json"
        odd.write_text(
            '{"clients": [{"clientId": "old", "protocol": "saml"}, {"clientId": "masked", "secret": "***",'
            ' "serviceAccountsEnabled": true}]}'
        )
        status, out, _ = client(people, "import", str(odd), "--json")
        found = {one["id"]: one for one in json.loads(out)["clients"]}
        assert (status, found["old"]["outcome"]) == (1, "refused")
        assert token(people, basic("masked", found["masked"]["secret"]))[0] == 200
        odd.write_text("[]")
        assert client(people, "import", str(odd))[0] == 2


def test_certificates_are_taken_away_and_given_back_by_fingerprint(people: PeopleProcess) -> None:
    digest = "ab" * 32
    assert as_json(people, "revocation", "add", digest.upper(), "--note", "lost")["id"] == digest
    status, _, err = client(people, "revocation", "add", digest)
    assert (status, "already" in err) == (1, True), err
    assert [one["note"] for one in as_json(people, "revocation", "list")["certificates"]] == ["lost"]
    status, out, _ = client(people, "revocation", "list")
    assert (status, digest in out) == (0, True)
    assert client(people, "revocation", "remove", digest)[0] == 0
    assert as_json(people, "revocation", "list") == {"certificates": [], "lists": []}
    assert client(people, "revocation", "remove", "cd" * 32)[0] == 1
    for arguments in (("add", "/nowhere.pem"), ("import", "/nowhere.crl"), ("remove", "../users")):
        assert client(people, "revocation", *arguments)[0] == 2, arguments
    status, _, err = client(people, "revocation", "import", "-", stdin="nonsense")
    assert (status, "revocation list" in err) == (2, True)


def test_a_client_is_changed_and_given_a_new_secret(people: PeopleProcess) -> None:
    old = as_json(people, "add", "moving", "--scope", "read")["secret"]
    changed = as_json(people, "change", "moving", "--scope", "read write", "--access-ttl", "60", "--name", "Moved")
    assert (changed["scopes"], changed["access_ttl"], changed["name"]) == (["read", "write"], 60, "Moved")
    assert token(people, basic("moving", old), scope="write")[0] == 200
    status, out, err = client(people, "change", "moving", "--new-secret")
    assert (status, "shown only now" in err) == (0, True)
    assert token(people, basic("moving", old))[0] == 401
    assert token(people, basic("moving", out.strip().splitlines()[-1]))[0] == 200
    assert client(people, "change", "moving")[0] == 2
    assert client(people, "change", "nobody", "--name", "x")[0] == 1
