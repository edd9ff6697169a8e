"""A role change ends what the old role's tokens could do, at once and for good: through the real gateway."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from tests.integration.conftest import Running, running, write_tiny
from tests.integration.pdp_process import GATEWAY as PDP_GATEWAY
from tests.integration.pdp_process import PdpProcess, claims_header
from tests.support import eventually, short_directory

ROLES = """
[app]
name = "tiny"
trust_domain = "tiny.example"

[[service]]
name = "hello"
command = ["python", "hello.py"]
socket = "app.sock"
routes = ["/hello"]

[policy]
path = "policy"

[people.roles.teller]
permissions = ["hello:read"]

[people.roles.desk]
manages = ["user", "teller"]
"""
POLICY = """
package authz

import rego.v1

decision := {"allow": true, "rule": "hello.read", "reason": "the role has the permission"} if {
	"hello:read" in data.rempart.roles[input.jwt.role].permissions
} else := {"allow": false, "rule": "hello.denied", "code": "forbidden", "reason": "it has not", "status": 403}
"""
PASSWORD = "a quiet river of glass 42"


@dataclass
class Teller:
    """A person of role teller, logged in."""

    system: Running
    email: str
    token: str = ""
    refresh_token: str = ""

    def __post_init__(self) -> None:
        made = self.system.run("user", "add", "--email", self.email, "--role", "teller", input=PASSWORD)
        assert made.returncode == 0, made.stderr
        self.log_in()

    def log_in(self) -> None:
        with self._client() as client:
            answer = client.post("/login", json={"email": self.email, "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        self.token, self.refresh_token = answer.json()["access_token"], answer.json()["refresh_token"]

    @property
    def session(self) -> str:
        claims = self.token.split(".")[1]
        return str(json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["sid"])

    def posts(self, path: str, **form: str) -> httpx.Response:
        with self._client() as client:
            return client.post(path, data=form)

    def asks(self) -> httpx.Response:
        with self._client() as client:
            return client.get("/hello", headers={"authorization": f"Bearer {self.token}"})

    def _client(self) -> httpx.Client:
        context = ssl.create_default_context(cafile=self.system.ca)
        return httpx.Client(base_url=self.system.url, verify=context, timeout=10)


@pytest.fixture(scope="module")
def system() -> Iterator[Running]:
    with short_directory("rt") as directory:
        app = write_tiny(directory / "app", ROLES)
        (app / "policy").mkdir()
        (app / "policy" / "authz.rego").write_text(POLICY)
        with running(app) as up:
            yield up


def change(system: Running, *arguments: str) -> float:
    """When the change was made, in monotonic seconds."""
    done = system.run("user", *arguments)
    assert done.returncode == 0, done.stderr
    return time.monotonic()


def falls_in_time(refusal: Callable[[], object], since: float) -> None:
    """Nothing that was sent two seconds after the change is taken; how slow the answers are doesn't count."""
    taken: list[float] = []

    def ask() -> bool:
        sent = time.monotonic()
        try:
            refusal()
        except AssertionError:
            taken.append(sent - since)
            raise
        return True

    eventually(ask, within=30)
    assert max(taken, default=0.0) < 2.0


def refused(teller: Teller) -> httpx.Response:
    answer = teller.asks()
    assert answer.status_code == 401, answer.text
    assert answer.json()["code"] == "token_superseded"
    assert "superseded" in answer.json()["detail"]
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    return answer


def test_a_demoted_persons_token_is_refused_within_two_seconds(system: Running) -> None:
    teller = Teller(system, "demoted@tiny.example")
    assert teller.asks().status_code == 200  # an own role, whose permission the policy reads
    changed = change(system, "role", teller.email, "user")
    falls_in_time(lambda: refused(teller), changed)
    teller.log_in()
    assert teller.asks().json()["code"] == "forbidden"  # the new token is good, and may less


def test_a_disabled_persons_token_is_refused(system: Running) -> None:
    teller = Teller(system, "disabled@tiny.example")
    assert teller.asks().status_code == 200
    changed = change(system, "disable", teller.email)
    falls_in_time(lambda: refused(teller), changed)
    change(system, "enable", teller.email)
    refused(teller)


def test_signing_everyone_of_an_account_out_ends_its_access_tokens(system: Running) -> None:
    teller = Teller(system, "revoked@tiny.example")
    change(system, "revoke", teller.email)
    eventually(lambda: refused(teller), within=2)


def test_what_a_deleted_client_holds_is_refused_within_two_seconds_and_a_new_one_of_its_id_begins_anew(
    system: Running,
) -> None:
    def register() -> tuple[str, str]:
        added = system.run("client", "add", "robot", "--scope", "hello", "--json")
        assert added.returncode == 0, added.stderr
        return "robot", json.loads(added.stdout)["secret"]

    def token(auth: tuple[str, str]) -> str:
        with gateway(system) as http:
            answer = http.post("/auth/token", data={"grant_type": "client_credentials"}, auth=auth)
        return str(answer.json()["access_token"])

    def stands(token: str) -> bool:
        with gateway(system) as http:
            answer = http.get("/hello", headers={"authorization": f"Bearer {token}"})
        assert answer.json()["code"] == "insufficient_scope"  # a good token, for which the policy has nothing
        return True

    def falls(token: str) -> bool:
        with gateway(system) as http:
            answer = http.get("/hello", headers={"authorization": f"Bearer {token}"})
        assert (answer.status_code, answer.json()["code"]) == (401, "session_ended")
        return True

    held = token(register())
    stands(held)
    assert system.run("client", "delete", "robot").returncode == 0
    deleted = time.monotonic()
    falls_in_time(lambda: falls(held), deleted)
    auth = register()
    eventually(lambda: stands(token(auth)), within=10)  # clocks of two instances may differ by some seconds
    falls(held)


def over(teller: Teller) -> httpx.Response:
    answer = teller.asks()
    assert answer.status_code == 401, answer.text
    assert answer.json()["code"] == "session_ended"
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    return answer


def _by_its_owner_elsewhere(teller: Teller) -> None:
    with gateway(teller.system) as http:
        token = http.post("/login", json={"email": teller.email, "password": PASSWORD}).json()["access_token"]
        headers = {"authorization": f"Bearer {token}"}
        assert http.delete(f"/auth/sessions/{teller.session}", headers=headers).status_code == 204
        assert http.get("/hello", headers=headers).status_code == 200  # the other session goes on


def _by_the_operator(teller: Teller) -> None:
    change(teller.system, "revoke", teller.email, "--session", teller.session)


def _by_reuse(teller: Teller) -> None:
    first = teller.posts("/auth/token", grant_type="refresh_token", refresh_token=teller.refresh_token).json()
    second = teller.posts("/auth/token", grant_type="refresh_token", refresh_token=first["refresh_token"])
    assert second.status_code == 200
    teller.token = second.json()["access_token"]  # the newest one falls as well
    assert teller.asks().status_code == 200
    again = teller.posts("/auth/token", grant_type="refresh_token", refresh_token=teller.refresh_token)
    assert again.status_code == 400


def _by_revoking_its_refresh_token(teller: Teller) -> None:
    assert teller.posts("/auth/revoke", token=teller.refresh_token).status_code == 200


def _by_revoking_the_access_token(teller: Teller) -> None:
    assert teller.posts("/auth/revoke", token=teller.token).status_code == 200


ENDS = [
    _by_its_owner_elsewhere,
    _by_the_operator,
    _by_reuse,
    _by_revoking_its_refresh_token,
    _by_revoking_the_access_token,
]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__.strip("_"))
def test_a_session_that_is_ended_alone_takes_its_access_tokens_along(
    system: Running, end: Callable[[Teller], None]
) -> None:
    teller = Teller(system, f"{end.__name__.strip('_').replace('_', '-')}@tiny.example")
    assert teller.asks().status_code == 200
    end(teller)
    ended = time.monotonic()
    falls_in_time(lambda: over(teller), ended)
    teller.log_in()
    assert teller.asks().status_code == 200


def test_a_tools_session_takes_the_tokens_along_that_were_made_of_it(system: Running) -> None:
    teller = Teller(system, "tool@tiny.example")
    with gateway(system) as http:
        opened = http.post("/auth/sessions", json={"email": teller.email, "password": PASSWORD, "kind": "cli"}).json()
        headers = {"authorization": f"Session {opened['session']}"}
        teller.token = http.post("/auth/sessions/token", headers=headers).json()["access_token"]
        assert teller.asks().status_code == 200
        assert http.delete("/auth/sessions/current", headers=headers).status_code == 204
    eventually(lambda: over(teller), within=10)


@pytest.mark.parametrize("stopped", [("people",), ("pdp",), ("people", "pdp")])
def test_an_ended_session_stays_ended_when_they_are_killed(system: Running, stopped: tuple[str, ...]) -> None:
    teller = Teller(system, f"ended-{'-'.join(stopped)}@tiny.example")
    _by_revoking_its_refresh_token(teller)
    eventually(lambda: over(teller), within=5)
    pids = {name: system.pid(name) for name in stopped}
    for pid in pids.values():
        os.kill(int(pid or 0), signal.SIGKILL)
    eventually(lambda: all(system.pid(name) not in (None, pid) for name, pid in pids.items()), within=30)
    eventually(lambda: system.now()["ready"], within=30)
    eventually(lambda: teller.asks().status_code != 503, within=30)
    over(teller)


@pytest.mark.parametrize("stopped", [("people",), ("pdp",), ("people", "pdp")])
def test_neither_forgets_when_killed(system: Running, stopped: tuple[str, ...]) -> None:
    teller = Teller(system, f"{'-'.join(stopped)}@tiny.example")
    change(system, "role", teller.email, "user")
    eventually(lambda: refused(teller), within=5)
    pids = {name: system.pid(name) for name in stopped}
    for pid in pids.values():
        os.kill(int(pid or 0), signal.SIGKILL)
    eventually(lambda: all(system.pid(name) not in (None, pid) for name, pid in pids.items()), within=30)
    eventually(lambda: system.now()["ready"], within=30)
    eventually(lambda: teller.asks().status_code != 503, within=30)
    refused(teller)


def test_what_changes_while_the_pdp_is_down_is_refused_when_it_is_back(system: Running) -> None:
    teller = Teller(system, "meanwhile@tiny.example")
    pid = system.pid("pdp")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    change(system, "disable", teller.email)
    eventually(lambda: system.pid("pdp") not in (None, pid), within=30)
    answer = eventually(lambda: (a := teller.asks()).status_code != 503 and a, within=30)
    assert answer.status_code == 401, answer.text


def test_the_record_says_why(system: Running) -> None:
    teller = Teller(system, "recorded@tiny.example")
    change(system, "role", teller.email, "user")
    answer = eventually(lambda: refused(teller), within=5)
    decision = answer.headers["x-rempart-decision"]
    shown = eventually(lambda: (s := system.run("audit", "show", decision, "--json")).returncode == 0 and s, within=5)
    assert "superseded" in json.dumps(json.loads(shown.stdout))


def test_the_pdp_keeps_what_it_was_told_on_disk_and_counts_the_silence(system: Running) -> None:
    kept = json.loads((Path(system.state) / "data" / "pdp" / "epochs.json").read_text())
    assert kept["epochs"]
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(system.state / "run/metrics/pdp.sock"))) as client:
        text = client.get("http://pdp/metrics").text
    silence = next(float(line.split()[1]) for line in text.splitlines() if line.startswith("rempart_epochs_silence"))
    assert silence < 8
    assert "rempart_epochs_stale 0" in text


def test_a_sidecar_refuses_as_the_gateway_does() -> None:
    line = json.dumps({"run": "r", "seq": 1, "epochs": [["acc_1", 2, time.time()]]}).encode() + b"\n"
    with short_directory("rt") as directory, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(directory / "epochs.sock"))
        listening.listen()
        pdp = PdpProcess(directory, epochs_sockets=[str(directory / "epochs.sock")])
        try:
            with ThreadPoolExecutor() as pool:
                starting = pool.submit(pdp.start)
                people, _ = listening.accept()
                people.sendall(line)
                assert starting.result(20)
            with people:
                gateway = {"x-rempart-peer": PDP_GATEWAY}
                for point, headers in (("gateway", {}), ("wallet", gateway)):
                    old = pdp.ask(point, "GET", "/wallet", {"x-rempart-claims": claims_header(epoch=1), **headers})
                    new = pdp.ask(point, "GET", "/wallet", {"x-rempart-claims": claims_header(epoch=2), **headers})
                    assert (old.status_code, old.json()["code"], new.status_code) == (401, "token_superseded", 200), (
                        point
                    )
        finally:
            pdp.close()


def test_administration_through_the_gateway_is_for_those_who_administer(system: Running) -> None:
    with gateway(system) as http:
        assert http.get("/auth/admin/users").status_code == 401
        teller = Teller(system, "no-admin@tiny.example")
        refused = http.get("/auth/admin/users", headers={"authorization": f"Bearer {teller.token}"})
        assert (refused.status_code, refused.json()["code"]) == (403, "role_not_allowed")
        made = system.run("user", "add", "--email", "desk@tiny.example", "--role", "desk", input=PASSWORD)
        assert made.returncode == 0, made.stderr
        token = http.post("/login", json={"email": "desk@tiny.example", "password": PASSWORD}).json()["access_token"]
        headers = {"authorization": f"Bearer {token}"}
        listed = http.get("/auth/admin/users", headers=headers)
        assert teller.email in {user["email"] for user in listed.json()["users"]}
        changed = http.patch(f"/auth/admin/users/{teller.email}", json={"role": "user"}, headers=headers)
        assert changed.json()["role"] == "user"
        raised = http.patch(f"/auth/admin/users/{teller.email}", json={"role": "finance"}, headers=headers)
        assert (raised.status_code, raised.json()["code"]) == (403, "role_out_of_reach")
        eventually(lambda: http_status(teller) == 401, within=2)


def test_provisioning_through_the_gateway_acts_at_once(system: Running) -> None:
    teller = Teller(system, "scim@tiny.example")
    grant = ("--grant", "client_credentials", "--scope", "scim", "--json")
    made = system.run("client", "add", "provisioner", *grant)
    assert made.returncode == 0, made.stderr
    secret = json.loads(made.stdout)["secret"]
    with gateway(system) as http:
        form = {"grant_type": "client_credentials", "scope": "scim"}
        token = http.post("/auth/token", auth=("provisioner", secret), data=form).json()["access_token"]
        headers = {"authorization": f"Bearer {token}"}
        found = http.get("/auth/scim/v2/Users", params={"filter": f'userName eq "{teller.email}"'}, headers=headers)
        user = found.json()["Resources"][0]
        assert teller.asks().status_code == 200
        body = {
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
            "Operations": [{"op": "replace", "path": "active", "value": False}],
        }
        answer = http.patch(f"/auth/scim/v2/Users/{user['id']}", json=body, headers=headers)
        assert answer.json()["active"] is False, answer.text
    eventually(lambda: http_status(teller) == 401, within=2)


def gateway(system: Running) -> httpx.Client:
    context = ssl.create_default_context(cafile=system.ca)
    return httpx.Client(base_url=system.url, verify=context, timeout=10)


def http_status(teller: Teller) -> int:
    return teller.asks().status_code
