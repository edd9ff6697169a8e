"""`[people] instances = 2`: two processes of people on one PostgreSQL and one Redis behind the real gateway. The PDP
hears both; one of them hangs, a store goes and comes, and nobody is signed out."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import signal
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from tests.integration.conftest import Running, running, write_tiny
from tests.postgres import PrivatePostgres, private_postgres
from tests.redis_server import PrivateRedis, private_redis
from tests.support import eventually, short_directory

PASSWORD = "a quiet river of glass 42"
CALLBACK = "https://app.example/cb"
VERIFIER = "v" * 64
SETTINGS = """
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

[people]
instances = 2
database = "postgresql://postgres@/postgres?host={database}"
sessions = "{sessions}"
shared_key = "${{PEOPLE_KEY}}"
"""
POLICY = """
package authz

import rego.v1

decision := {"allow": true, "rule": "hello.people", "reason": "somebody"} if {
	is_object(input.jwt)
} else := {"allow": false, "rule": "hello.nobody", "code": "unauthenticated", "reason": "nobody", "status": 401}
"""


@dataclass
class Both:
    system: Running
    database: PrivatePostgres
    redis: PrivateRedis

    def http(self) -> httpx.Client:
        """A connection of its own for each request, so that they go to the instances in turn."""
        context = ssl.create_default_context(cafile=self.system.ca)
        limits = httpx.Limits(max_keepalive_connections=0)
        return httpx.Client(base_url=self.system.url, verify=context, timeout=30, limits=limits)

    def add(self, name: str) -> str:
        email = f"{name}@tiny.example"
        made = self.system.run("user", "add", "--email", email, "--role", "user", input=PASSWORD)
        assert made.returncode == 0, made.stderr
        return email

    def login(self, email: str) -> httpx.Response:
        with self.http() as http:
            return http.post("/login", json={"email": email, "password": PASSWORD})

    def hello(self, token: str) -> httpx.Response:
        with self.http() as http:
            return http.get("/hello", headers={"authorization": f"Bearer {token}"})

    def _instances(self) -> dict[str, dict[str, Any]]:
        """What the sidecar knows of each, by the name of its socket."""
        socket = str(self.system.state / "run/envoy/people/admin.sock")
        with httpx.Client(transport=httpx.HTTPTransport(uds=socket)) as admin:
            clusters = admin.get("http://envoy/clusters?format=json").json()["cluster_statuses"]
        hosts = next(one["host_statuses"] for one in clusters if one["name"] == "to_application")
        return {Path(host["address"]["pipe"]["path"]).name: host for host in hosts}

    def served(self) -> dict[str, int]:
        """How many requests the sidecar gave to each instance."""
        return {
            name: next(int(stat.get("value", 0)) for stat in host["stats"] if stat["name"] == "rq_success")
            for name, host in self._instances().items()
        }

    def ill(self) -> set[str]:
        """Those that get no requests."""
        hosts = self._instances().items()
        return {name for name, host in hosts if host["health_status"].get("failed_active_health_check")}


@pytest.fixture(scope="module")
def both() -> Iterator[Both]:
    with contextlib.ExitStack() as held:
        database = held.enter_context(private_postgres())
        redis = held.enter_context(private_redis())
        redis.directory.chmod(0o711)
        (redis.directory / "redis.sock").chmod(0o777)  # the instances are users of their own
        app = write_tiny(
            held.enter_context(short_directory("rt")) / "app",
            SETTINGS.format(database=database.directory, sessions=redis.address),
        )
        (app / "policy").mkdir()
        (app / "policy" / "authz.rego").write_text(POLICY)
        yield Both(held.enter_context(running(app, env={"PEOPLE_KEY": "5e" * 32})), database, redis)


def form_token(page: httpx.Response) -> str:
    found = re.search(r'name="form_token" value="([^"]+)"', page.text)
    assert found, page.text
    return found[1]


def sign_in(http: httpx.Client, email: str) -> dict[str, Any]:
    """Code flow with PKCE, by the pages; the tokens at its end."""
    challenge = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
    parameters = {
        "client_id": "app",
        "response_type": "code",
        "redirect_uri": CALLBACK,
        "scope": "openid session",
        "state": "s",
        "nonce": "n",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    answer = http.get("/auth/authorize", params=parameters)
    for _ in range(8):
        if answer.status_code == 200:
            form = {"form_token": form_token(answer), "email": email, "password": PASSWORD}
            answer = http.post(answer.url, data=form, headers={"origin": str(answer.url.join("/"))[:-1]})
            continue
        assert answer.status_code == 303, answer.text
        where = answer.headers["location"]
        if where.startswith(CALLBACK):
            break
        answer = http.get(where)
    code = parse_qs(urlsplit(answer.headers["location"]).query)["code"][0]
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "client_id": "app"}
    redeemed = http.post("/auth/token", data={**form, "code_verifier": VERIFIER})
    assert redeemed.status_code == 200, redeemed.text
    tokens: dict[str, Any] = redeemed.json()
    return tokens


def test_one_flow_crosses_both_instances(both: Both) -> None:
    email = both.add("crossing")
    grants = ("--grant", "authorization_code", "--grant", "refresh_token", "--redirect-uri", CALLBACK)
    made = both.system.run("client", "add", "app", "--public", *grants, "--scope", "openid", "--scope", "session")
    assert made.returncode == 0, made.stderr
    start = both.served()
    with both.http() as http:
        eventually(  # the gateway asks an instance once it has looked at its health
            lambda: (
                http.get("/auth/.well-known/openid-configuration").is_success
                and all(both.served()[name] > count for name, count in start.items())
            ),
            within=30,
        )
    before = both.served()
    assert set(before) == {"app.sock", "app-2.sock"}
    with both.http() as http:
        tokens = sign_in(http, email)
        refreshed = http.post(
            "/auth/token",
            data={"grant_type": "refresh_token", "client_id": "app", "refresh_token": tokens["refresh_token"]},
        )
        assert refreshed.status_code == 200, refreshed.text
    gained = {name: count - before[name] for name, count in both.served().items()}
    assert min(gained.values()) >= 2, gained  # both had a part in it
    assert both.hello(refreshed.json()["access_token"]).status_code == 200


def test_what_either_instance_ends_is_refused_at_the_gateway(both: Both) -> None:
    for turn in range(4):  # logins and logouts fall to one and the other
        email = both.add(f"ended{turn}")
        token = both.login(email).json()["access_token"]
        assert both.hello(token).status_code == 200
        with both.http() as http:
            assert http.delete("/auth/sessions", headers={"authorization": f"Bearer {token}"}).status_code == 200
        eventually(lambda token=token: both.hello(token).status_code == 401, within=5)  # type: ignore[misc] # mypy takes no default of a lambda


@pytest.mark.parametrize("name", ["people", "people-2"])
def test_one_that_dies_is_missed_by_nobody(both: Both, name: str) -> None:
    email = both.add(f"missed-{name}")
    token = both.login(email).json()["access_token"]
    pid, socket = both.system.pid(name), {"people": "app.sock", "people-2": "app-2.sock"}[name]
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)  # it hangs: worse than dying, since nobody hears of it
    try:
        eventually(lambda: both.ill() == {socket}, within=10)
        for _ in range(6):
            assert both.login(email).status_code == 200
        change = both.system.run("user", "revoke", email) if name != "people" else None
        assert change is None or change.returncode == 0
        if change is not None:  # the PDP hears of it from the other one
            eventually(lambda: both.hello(token).status_code == 401, within=15)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: both.system.pid(name) not in (None, pid), within=60)
    eventually(lambda: both.system.now()["ready"], within=60)
    assert both.login(email).status_code == 200


@pytest.mark.parametrize("store", ["database", "redis"])
def test_without_a_store_people_refuses_and_comes_back_by_itself(both: Both, store: str) -> None:
    email = both.add(f"store-{store}")
    tokens = both.login(email).json()
    server: PrivatePostgres | PrivateRedis = getattr(both, store)
    server.stop()
    try:
        for _ in range(4):
            answer = both.login(email)
            assert answer.status_code == 503, answer.text
            assert answer.json()["code"] == "store_unavailable"
        with both.http() as http:
            assert http.get("/auth/jwks.json").status_code == 200
        assert both.hello(tokens["access_token"]).status_code == 200  # who is signed in goes on
    finally:
        server.start()
        if store == "redis":
            (both.redis.directory / "redis.sock").chmod(0o777)
    eventually(lambda: all(both.login(email).status_code == 200 for _ in range(4)), within=30)
    with both.http() as http:
        form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
        assert http.post("/auth/token", data=form).status_code == 200
    verified = both.system.run("audit", "verify", "--json")
    assert verified.returncode == 0, verified.stdout
    assert {"people", "people-2"} <= {one["name"] for one in both.system.now()["processes"]}
    assert json.loads(verified.stdout)["ok"]
    found = json.loads(both.system.run("audit", "search", "--type", "people.login", "--limit", "500", "--json").stdout)
    assert {event["source"] for event in found["events"]} == {"people", "people-2"}
