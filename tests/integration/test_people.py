"""The real people process: what it promises must hold across kill -9, a full life of tokens, and the operator's CLI."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from tests.people_process import GATEWAY, USERS, PeopleProcess
from tests.support import eventually, short_directory

from rempart.crypto.jose import Jwks, verify_access_token
from rempart.kernel.clock import SystemClock

FROM = {"x-spiffe-id": GATEWAY, "x-forwarded-for": "203.0.113.7"}
RUN_CLI = "from rempart.cli.main import main; main()"
PASSWORD = "a quiet river of glass 42"


@pytest.fixture(scope="module")
def people() -> Iterator[PeopleProcess]:
    with short_directory() as directory:
        process = PeopleProcess(directory)
        process.start()
        try:
            yield process
        finally:
            process.close()


def add(people: PeopleProcess, email: str, role: str = "user", **more: object) -> dict[str, object]:
    with people.client("admin") as admin:
        answer = admin.post("/users", json={"email": email, "role": role, "password": PASSWORD, **more})
        assert answer.status_code == 201, answer.text
        document: dict[str, object] = answer.json()
        return document


def login(people: PeopleProcess, email: str, password: str = PASSWORD) -> httpx.Response:
    with people.client(**FROM) as client:
        return client.post("/login", json={"email": email, "password": password})


def refresh(people: PeopleProcess, token: str) -> httpx.Response:
    with people.client(**FROM) as client:
        return client.post("/auth/token", data={"grant_type": "refresh_token", "refresh_token": token})


def cli(people: PeopleProcess, *arguments: str, stdin: str = "") -> tuple[int, dict[str, object], str]:
    done = subprocess.run(
        [sys.executable, "-c", RUN_CLI, *arguments, "--json", "--state", str(people.directory)],
        input=stdin, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


def test_a_login_is_journaled_before_its_answer_and_its_token_verifies(people: PeopleProcess) -> None:
    account = add(people, "ann@bank.example", payment_limit=5000)
    answer = login(people, "ANN@bank.example")
    assert answer.status_code == 200
    with people.client() as client:
        jwks = Jwks.parse(client.get("/auth/jwks.json").content)
        issuer = client.get("/auth/.well-known/openid-configuration").json()["issuer"]
    claims = verify_access_token(answer.json()["access_token"], jwks, issuer, "bank.example", SystemClock().now())
    assert (claims.subject, claims.role, claims.payment_limit) == (account["id"], "user", 5000)
    logins = [e for e in people.journal() if e["type"] == "people.login" and e["person"] == account["id"]]
    assert [e["ip"] for e in logins] == ["203.0.113.7"]


def test_the_operator_is_named_by_the_kernel(people: PeopleProcess) -> None:
    account = add(people, "oscar@bank.example")
    created = [e for e in people.journal() if e["type"] == "people.account_created"]
    mine = [e for e in created if e["after"]["id"] == account["id"]]
    assert [e["operator"] for e in mine] == [f"uid:{os.getuid()}"]


def test_kill_9_loses_no_account_no_key_and_no_session(people: PeopleProcess) -> None:
    add(people, "kit@bank.example")
    token = login(people, "kit@bank.example").json()["refresh_token"]
    with people.client() as client:
        before = client.get("/auth/jwks.json").content
    people.stop(signal.SIGKILL)
    people.start()
    with people.client() as client:
        assert client.get("/auth/jwks.json").content == before
    assert refresh(people, token).status_code == 200
    assert login(people, "kit@bank.example").status_code == 200


def test_requests_that_wait_while_it_restarts_are_answered(people: PeopleProcess) -> None:
    add(people, "wanda@bank.example")
    people.stop(signal.SIGKILL)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(login, people, "wanda@bank.example")
        people.start()
        assert waiting.result(20).status_code == 200


def test_of_many_uses_of_one_refresh_token_all_get_the_same_successor_and_a_late_one_ends_the_session(
    people: PeopleProcess,
) -> None:
    add(people, "rae@bank.example")
    first = login(people, "rae@bank.example").json()["refresh_token"]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: refresh(people, first), range(24)))
    successors = {answer.json()["refresh_token"] for answer in answers}
    assert len(successors) == 1
    second = refresh(people, successors.pop()).json()["refresh_token"]
    reused = refresh(people, first)
    assert (reused.status_code, reused.json()["error"]) == (400, "invalid_grant")
    assert refresh(people, second).json()["error"] == "invalid_grant"
    found = [e for e in people.journal() if e["type"] == "people.token_reused"]
    assert [e["severity"] for e in found] == ["high"]


def test_rotating_keys_refuses_nothing_meanwhile(people: PeopleProcess) -> None:
    """Verifiers with the key set of before and of after, and a stream of refreshes over the rotation."""
    add(people, "rita@bank.example")
    answer = login(people, "rita@bank.example").json()
    failures: list[str] = []
    stop = threading.Event()

    def keep_refreshing() -> None:
        token = answer["refresh_token"]
        while not stop.is_set():
            result = refresh(people, token)
            if result.status_code != 200:
                failures.append(result.text)
                return
            token = result.json()["refresh_token"]

    worker = threading.Thread(target=keep_refreshing)
    worker.start()
    with people.client() as client:
        old_set = Jwks.parse(client.get("/auth/jwks.json").content)
        code, document, _ = cli(people, "keys", "rotate")
        assert code == 0
        new_set = Jwks.parse(client.get("/auth/jwks.json").content)
    fresh = login(people, "rita@bank.example").json()["access_token"]
    stop.set()
    worker.join(20)
    assert failures == []
    now, issuer = SystemClock().now(), "https://localhost:8443/auth"
    for token in (answer["access_token"], fresh):
        for keys in (old_set, new_set):
            assert verify_access_token(token, keys, issuer, "bank.example", now).subject
    states = [key["state"] for key in document["keys"]]  # type: ignore[attr-defined]
    assert sorted(states) == ["active"] * 3 + ["next"] * 3 + ["verify-only"] * 3
    assert cli(people, "keys", "rotate")[0] == 1  # the new next key isn't known everywhere yet
    leaked = next(key["kid"] for key in document["keys"] if key["state"] == "verify-only")  # type: ignore[attr-defined]
    assert cli(people, "keys", "rotate", "--retire-now", leaked)[0] == 0
    with people.client() as client:
        assert leaked not in client.get("/auth/jwks.json").text
    rotations = [e for e in people.journal() if e["type"] == "people.signing_key_rotated"]
    assert [e["severity"] for e in rotations] == ["info", "high"]


def test_a_password_guesser_is_slowed_and_the_owner_elsewhere_is_not(people: PeopleProcess) -> None:
    add(people, "olga@bank.example")
    assert login(people, "olga@bank.example").status_code == 200  # from the owner's network
    attacker = {"x-spiffe-id": GATEWAY, "x-forwarded-for": "198.51.100.66"}
    with people.client(**attacker) as client:
        guesses = [
            client.post("/login", json={"email": "olga@bank.example", "password": f"guess number {n}"})
            for n in range(12)
        ]
    assert {answer.status_code for answer in guesses[:5]} == {401}
    assert guesses[-1].status_code == 429
    assert int(guesses[-1].headers["retry-after"]) >= 1
    assert login(people, "olga@bank.example").status_code == 200
    eventually(lambda: any(e["type"] == "people.login_throttled" for e in people.journal()))


def test_refresh_and_keys_answer_while_logins_wait_in_line(people: PeopleProcess) -> None:
    for n in range(4):
        add(people, f"flood{n}@bank.example")
    token = login(people, "flood0@bank.example").json()["refresh_token"]
    with ThreadPoolExecutor(40) as pool:
        flood = [pool.submit(login, people, f"flood{n % 4}@bank.example") for n in range(40)]
        assert refresh(people, token).status_code == 200
        unfinished = sum(not future.done() for future in flood)
        results = {future.result().status_code for future in flood}
    assert unfinished > 0
    assert results <= {200, 429}


def test_the_operators_commands(people: PeopleProcess) -> None:
    code, user, _ = cli(
        people,
        "user",
        "add",
        "--email",
        "carl@bank.example",
        "--role",
        "finance",
        "--limit",
        "100",
        stdin=PASSWORD + "\n",
    )
    assert (code, user["role"], user["payment_limit"], "password" in user) == (0, "finance", 100, False)
    code, user, _ = cli(people, "user", "add", "--email", "gen@bank.example", "--role", "user")
    assert login(people, "gen@bank.example", str(user["password"])).status_code == 200
    assert cli(people, "user", "add", "--email", "gen@bank.example", "--role", "user")[0] == 1
    assert cli(people, "user", "add", "--email", "not an address", "--role", "user")[0] == 2
    assert cli(people, "user", "add", "--email", "x@bank.example", "--role", "user", stdin="short\n")[0] == 2
    assert len(cli(people, "user", "sessions", "gen@bank.example")[1]["sessions"]) == 1  # type: ignore[arg-type]
    assert cli(people, "user", "revoke", "gen@bank.example")[1] == {"revoked": 1}
    assert cli(people, "user", "role", "gen@bank.example", "audit")[1]["role"] == "audit"
    assert cli(people, "user", "disable", "gen@bank.example")[1]["disabled"] is True
    assert login(people, "gen@bank.example", str(user["password"])).status_code == 401
    assert cli(people, "user", "enable", "gen@bank.example")[1]["disabled"] is False
    code, reset, _ = cli(people, "user", "reset-password", "gen@bank.example")
    assert login(people, "gen@bank.example", str(reset["password"])).status_code == 200
    assert login(people, "gen@bank.example", str(user["password"])).status_code == 401
    assert cli(people, "user", "show", "nobody@bank.example")[0] == 1
    emails = {entry["email"] for entry in cli(people, "user", "list")[1]["users"]}  # type: ignore[attr-defined]
    assert {"carl@bank.example", "gen@bank.example"} <= emails


def test_import_tells_of_each_line(people: PeopleProcess) -> None:
    file = people.directory / "people.csv"
    file.write_text("email,role,name,payment_limit,password\n"
                    f"imp1@bank.example,user,Imp One,700,{PASSWORD}\nimp2@bank.example,emperor,,,\n")  # fmt: skip
    code, document, _ = cli(people, "user", "import", str(file))
    users: list[dict[str, object]] = document["users"]  # type: ignore[assignment]
    assert (code, users[0]["payment_limit"], users[1]["code"]) == (1, 700, "bad_role")
    assert login(people, "imp1@bank.example").status_code == 200
    file.write_text("email,role,shoe_size\na@b.example,user,43\n")
    code, _, message = cli(people, "user", "import", str(file))
    assert code == 2
    assert "shoe_size" in message


def test_administration_over_the_internal_face_is_recorded_with_before_and_after(people: PeopleProcess) -> None:
    admin = add(people, "root@bank.example", "admin")
    victim = add(people, "vic@bank.example")
    headers = {"authorization": "Bearer " + login(people, "root@bank.example").json()["access_token"]}
    with people.client(**headers, **{"x-spiffe-id": USERS}) as client:
        answer = client.patch(f"/accounts/{victim['id']}", json={"payment_limit": 250})
        assert answer.json()["payment_limit"] == 250
        last = client.patch(f"/accounts/{admin['id']}", json={"disabled": True})
        assert (last.status_code, last.json()["code"]) == (409, "last_admin")
    with people.client(**headers, **{"x-spiffe-id": "spiffe://bank.example/wallet"}) as client:
        assert client.get("/accounts").json()["code"] == "workload_not_allowed"
    changed = [e for e in people.journal() if e["type"] == "people.account_changed" and e["success"]]
    event = next(e for e in changed if e["after"]["id"] == victim["id"])
    assert (event["person"], event["workload"]) == (admin["id"], USERS)
    assert (event["before"]["payment_limit"], event["after"]["payment_limit"]) == (None, 250)


def test_nothing_secret_reaches_the_log_or_the_journal(people: PeopleProcess) -> None:
    add(people, "sam@bank.example")
    answer = login(people, "sam@bank.example").json()
    told = people.log() + json.dumps(people.journal())
    for secret in (PASSWORD, answer["access_token"], answer["refresh_token"], answer["device"], "argon2id"):
        assert secret not in told


def test_it_ends_in_order_on_sigterm() -> None:
    with short_directory() as directory:
        people = PeopleProcess(directory)
        try:
            people.start()
            add(people, "end@bank.example")
            assert people.stop() == 0, people.log()
        finally:
            people.close()
        assert [e["type"] for e in people.journal()] == ["people.account_created"]
        modes = {path.name: path.stat().st_mode & 0o777 for path in (directory / "data").iterdir()}
        assert set(modes.values()) == {0o600}


def test_with_the_throttle_switched_off_guessing_goes_on() -> None:
    """So the attack suite can show that the throttle is what stops it."""
    with short_directory() as directory:
        people = PeopleProcess(directory, {"unsafe_disabled": ["login-throttle", "refresh-rotation"]})
        try:
            people.start()
            add(people, "weak@bank.example")
            answers = [login(people, "weak@bank.example", f"guess number {n}").status_code for n in range(12)]
            assert set(answers) == {401}
            token = login(people, "weak@bank.example").json()["refresh_token"]
            assert [refresh(people, token).status_code for _ in range(3)] == [200] * 3
        finally:
            people.close()
