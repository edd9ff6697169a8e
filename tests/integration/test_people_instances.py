"""Two processes of people on one PostgreSQL and one Redis, behind one Envoy, are one identity provider, and lose
nothing with either."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import psycopg
import pytest
from tests.people_process import GATEWAY, PeopleProcess
from tests.postgres import PrivatePostgres, private_postgres
from tests.redis_server import PrivateRedis, private_redis
from tests.support import eventually, free_port, short_directory

from rempart.attack.certificates import Authority
from rempart.mesh.binary import envoy_command
from rempart.people.sessions.cookies import SESSION_COOKIE

PASSWORD = "a quiet river of glass 42"
CALLBACK = "https://app.example/cb"
VERIFIER = "v" * 64
_numbers = count()


@dataclass
class Pair:
    one: PeopleProcess
    two: PeopleProcess
    database: PrivatePostgres
    redis: PrivateRedis
    url: str
    authority: Path

    def clients(self) -> tuple[httpx.Client, httpx.Client]:
        headers = {"x-spiffe-id": GATEWAY, "x-forwarded-for": f"203.0.113.{next(_numbers)}"}
        return self.one.client(**headers), self.two.client(**headers)

    def account(self) -> str:
        email = f"p{next(_numbers)}@bank.example"
        with self.one.client("admin") as admin:
            answer = admin.post("/users", json={"email": email, "role": "user", "password": PASSWORD})
        assert answer.status_code == 201, answer.text
        return email


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with contextlib.ExitStack() as held:
        database = held.enter_context(private_postgres())
        redis = held.enter_context(private_redis())
        threads = held.enter_context(ThreadPoolExecutor(2))  # a process dies with the thread that started it
        port = free_port()
        settings = {
            "issuer": f"https://localhost:{port}/auth",
            "signing_key_lead": 0,
            "state": {"database": database.conninfo, "sessions": redis.address, "shared_key": "5e" * 32},
        }
        instances = []
        for _ in range(2):
            instances.append(PeopleProcess(held.enter_context(short_directory("pp")), settings))
            held.callback(instances[-1].close)
        list(threads.map(PeopleProcess.start, instances))  # at once: they make the tables and the ring together
        directory = held.enter_context(short_directory("gw"))
        authority = held.enter_context(gateway(port, instances, directory))
        yield Pair(*instances, database, redis, f"https://localhost:{port}", authority)


def _typed(kind: str, **fields: Any) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/envoy.extensions.{kind}", **fields}


@contextlib.contextmanager
def gateway(port: int, instances: Sequence[PeopleProcess], directory: Path) -> Iterator[Path]:
    """An Envoy that gives each request to the next instance; yields the authority of its certificate."""
    identity = Authority.create("gateway").issue(dns=["localhost"])
    chain, key, config = directory / "chain.pem", directory / "key.pem", directory / "envoy.json"
    chain.write_bytes(identity.chain)
    key.write_bytes(identity.key)
    named = {"header": {"key": "x-spiffe-id", "value": GATEWAY}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "people"}}
    manager = _typed(
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="people",
        use_remote_address=True,
        http_filters=[{"name": "router", "typed_config": _typed("filters.http.router.v3.Router")}],
        route_config={
            "request_headers_to_add": [named],
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}],
        },
    )
    server = {
        "tls_certificates": [{"certificate_chain": {"filename": str(chain)}, "private_key": {"filename": str(key)}}]
    }
    tls = _typed("transport_sockets.tls.v3.DownstreamTlsContext", common_tls_context=server)
    ways = [{"endpoint": {"address": {"pipe": {"path": str(instance.path("api"))}}}} for instance in instances]
    listener = {
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [
            {
                "filters": [{"name": "http", "typed_config": manager}],
                "transport_socket": {"name": "tls", "typed_config": tls},
            }
        ],
    }
    cluster = {
        "name": "people",
        "lb_policy": "ROUND_ROBIN",
        "load_assignment": {"cluster_name": "people", "endpoints": [{"lb_endpoints": ways}]},
    }
    config.write_text(json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}}))
    with (directory / "envoy.log").open("w") as log:
        envoy = subprocess.Popen(envoy_command(config, concurrency=1), stdout=log, stderr=log)
    try:
        eventually(lambda: socket.create_connection(("127.0.0.1", port), 1).close() is None, within=15)
        yield chain
    finally:
        envoy.terminate()
        envoy.wait(10)


def browser(pair: Pair) -> httpx.Client:
    context = ssl.create_default_context(cafile=pair.authority)
    return httpx.Client(base_url=pair.url, verify=context, headers={"accept-language": "en"}, timeout=30)


def login(client: httpx.Client, email: str, password: str = PASSWORD) -> httpx.Response:
    return client.post("/login", json={"email": email, "password": password})


def refresh(client: httpx.Client, token: str) -> httpx.Response:
    return client.post("/auth/token", data={"grant_type": "refresh_token", "refresh_token": token})


def bearer(answer: httpx.Response) -> dict[str, str]:
    return {"authorization": "Bearer " + answer.json()["access_token"]}


def test_a_login_on_one_is_refreshed_on_the_other_and_its_tokens_count_at_both(pair: Pair) -> None:
    one, two = pair.clients()
    with one, two:
        answer = login(one, pair.account())
        for turn in range(6):
            answer = refresh((two, one)[turn % 2], answer.json()["refresh_token"])
            assert answer.status_code == 200, answer.text
            for client in (one, two):
                assert client.get("/auth/sessions", headers=bearer(answer)).status_code in (200, 404)
        first = answer.json()["refresh_token"]
        assert refresh(one, first).status_code == 200
        assert refresh(two, first).json()["refresh_token"] == refresh(one, first).json()["refresh_token"]


def test_of_many_refreshes_at_both_one_makes_the_successor(pair: Pair) -> None:
    one, two = pair.clients()
    with one, two:
        token = login(one, pair.account()).json()["refresh_token"]
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda n: refresh((one, two)[n % 2], token), range(16)))
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.json()["refresh_token"] for answer in answers}) == 1
        assert refresh(two, answers[0].json()["refresh_token"]).status_code == 200


def test_failures_are_counted_together(pair: Pair) -> None:
    one, two = pair.clients()
    email = pair.account()
    with one, two:
        statuses = [login((one, two)[n % 2], email, "wrong password of some length").status_code for n in range(8)]
        assert statuses[:6] == [401] * 6
        assert 429 in statuses[6:]
        assert {login(client, email).status_code for client in (one, two)} == {429}


def _form_token(page: httpx.Response) -> str:
    found = re.search(r'name="form_token" value="([^"]+)"', page.text)
    assert found, page.text
    return found[1]


def _authorize(client: httpx.Client, app: str) -> httpx.Response:
    challenge = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
    parameters = {"client_id": app, "response_type": "code", "redirect_uri": CALLBACK, "scope": "openid offline_access",
                  "state": "s", "nonce": "n", "code_challenge": challenge, "code_challenge_method": "S256"}  # fmt: skip
    return client.get("/auth/authorize", params=parameters)


def _follow(client: httpx.Client, answer: httpx.Response, email: str) -> str:
    """Sign in where asked to; the code at the end."""
    for _ in range(8):
        if answer.status_code == 200:
            form = {"form_token": _form_token(answer), "email": email, "password": PASSWORD}
            answer = client.post(answer.url, data=form, headers={"origin": str(answer.url.join("/"))[:-1]})
            continue
        assert answer.status_code == 303, answer.text
        where = answer.headers["location"]
        if where.startswith(CALLBACK):
            return parse_qs(urlsplit(where).query)["code"][0]
        answer = client.get(where)
    raise AssertionError(answer.text)


@pytest.fixture(scope="module")
def app(pair: Pair) -> str:
    with pair.two.client("admin") as admin:
        client = {"id": "app", "method": "none", "redirect_uris": [CALLBACK],
                  "grants": ["authorization_code", "refresh_token"]}  # fmt: skip
        answer = admin.post("/clients", json=client)
    assert answer.status_code == 201, answer.text
    return "app"


def _redeem(client: httpx.Client, app: str, code: str) -> httpx.Response:
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "client_id": app,
            "code_verifier": VERIFIER}  # fmt: skip
    return client.post("/auth/token", data=form)


def test_one_login_flow_crosses_both_and_its_session_is_seen_by_both(pair: Pair, app: str) -> None:
    email = pair.account()
    one, two = pair.clients()
    with browser(pair) as person, one, two:
        code = _follow(person, _authorize(person, app), email)
        answer = _redeem(two, app, code)
        assert answer.status_code == 200, answer.text
        assert answer.json()["id_token"]
        form = {"grant_type": "refresh_token", "client_id": app, "refresh_token": answer.json()["refresh_token"]}
        assert one.post("/auth/token", data=form).status_code == 200
        for _ in range(4):  # twice at each
            page = person.get("/auth/account")
            assert (page.status_code, email in page.text) == (200, True)
        again = _authorize(person, app)  # still signed in: no page in between
        assert _follow(person, again, "nobody@bank.example")


def test_of_two_that_redeem_one_code_at_both_one_gets_tokens(pair: Pair, app: str) -> None:
    email = pair.account()
    one, two = pair.clients()
    with browser(pair) as person, one, two, ThreadPoolExecutor(2) as threads:
        _follow(person, _authorize(person, app), email)
        for _ in range(5):
            code = _follow(person, _authorize(person, app), email)
            answers = list(threads.map(lambda client: _redeem(client, app, code), (one, two)))  # noqa: B023 - used at once
            assert sorted(answer.status_code for answer in answers) in ([200, 400], [400, 400])
            refused = [answer.json()["error"] for answer in answers if answer.status_code == 400]
            assert set(refused) == {"invalid_grant"}


def test_keys_turned_at_one_refuse_no_token_at_the_other(pair: Pair) -> None:
    one, two = pair.clients()
    with one, two, pair.one.client("admin") as admin:
        answer = login(two, pair.account())
        before = set(_kids(two))
        for _ in range(3):
            assert admin.post("/keys/rotate", json={}).status_code in (200, 201)
            for client in (one, two):
                answer = refresh(client, answer.json()["refresh_token"])
                for other in (one, two):
                    assert other.get("/auth/userinfo", headers=bearer(answer)).status_code != 401
            eventually(lambda: set(_kids(one)) == set(_kids(two)))
        assert set(_kids(two)) != before


def test_instances_of_two_versions_go_on_beside_each_other_until_the_tables_are_too_new(pair: Pair, app: str) -> None:
    """A later version adds columns to what this one writes, and keys turn meanwhile."""
    with psycopg.connect(pair.database.conninfo, autocommit=True) as later:
        tables = later.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        for (table,) in tables:
            later.execute(f"ALTER TABLE \"{table}\" ADD COLUMN later_on TEXT NOT NULL DEFAULT 'x'")  # type: ignore[arg-type]
        test_keys_turned_at_one_refuse_no_token_at_the_other(pair)
        test_of_two_that_redeem_one_code_at_both_one_gets_tokens(pair, app)
        later.execute("UPDATE schema_versions SET version = 999 WHERE room = 'people'")
        try:
            with short_directory("pp") as directory:
                third = PeopleProcess(directory, pair.one.settings)
                with pytest.raises(AssertionError, match="newer_schema"):
                    third.start()
                third.close()
        finally:
            later.execute("UPDATE schema_versions SET version = 1 WHERE room = 'people'")


def _kids(client: httpx.Client) -> list[str]:
    return [key["kid"] for key in client.get("/auth/jwks.json").json()["keys"]]


def _problem(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 503, answer.text
    document: dict[str, Any] = answer.json()
    assert document["code"] == "store_unavailable"
    assert "Traceback" not in answer.text
    return document


def test_without_the_database_nothing_is_granted_and_with_it_everything_is_back(pair: Pair) -> None:
    email = pair.account()
    one, two = pair.clients()
    with one, two:
        token = login(one, email).json()["refresh_token"]
        pair.database.stop()
        try:
            for client in (one, two):
                _problem(login(client, email))
                assert refresh(client, token).status_code == 503
                assert refresh(client, token).json()["error"] == "temporarily_unavailable"
                assert client.get("/auth/jwks.json").status_code == 200
        finally:
            pair.database.start()
        assert refresh(two, token).status_code == 200
        assert login(one, email).status_code == 200


def test_without_redis_nobody_is_signed_out_only_refused(pair: Pair) -> None:
    email = pair.account()
    one, two = pair.clients()
    with browser(pair) as person, one, two:
        page = person.get("/auth/sign-in")
        person.post("/auth/sign-in", data={"form_token": _form_token(page), "email": email, "password": PASSWORD})
        assert email in person.get("/auth/account").text
        pair.redis.stop()
        try:
            for _ in range(2):
                answer = person.get("/auth/account")
                assert answer.status_code == 503
                assert SESSION_COOKIE not in answer.headers.get("set-cookie", "")
            for client in (one, two):
                _problem(login(client, email))
        finally:
            pair.redis.start()
        for _ in range(2):
            assert email in person.get("/auth/account").text
        assert login(two, email).status_code == 200


def test_one_instance_dies_and_the_other_goes_on(pair: Pair) -> None:
    one, two = pair.clients()
    email = pair.account()
    with one, two:
        token = login(one, email).json()["refresh_token"]
        assert pair.one.stop(signal.SIGKILL) == -signal.SIGKILL
        answer = refresh(two, token)
        assert answer.status_code == 200
        pair.one.start()
        assert refresh(one, answer.json()["refresh_token"]).status_code == 200


def test_no_secret_is_in_the_logs(pair: Pair) -> None:
    for instance in (pair.one, pair.two):
        log = instance.log()
        assert "Traceback" not in log, log
        assert "5e" * 32 not in log
        assert PASSWORD not in log
