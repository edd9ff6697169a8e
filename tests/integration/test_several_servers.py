"""Two identity servers on one PostgreSQL are one trust domain; one dies, and nobody notices."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from tests.agent_support import AgentProcess, running_agent
from tests.identity_support import TRUST_DOMAIN, IdentityProcess, running_identity
from tests.integration.conftest import TINY, running, write_tiny
from tests.postgres import PrivatePostgres, private_postgres
from tests.support import eventually, free_port, short_directory

from rempart.crypto.svid import verify_svid
from rempart.crypto.x509 import Certificate
from rempart.kernel.errors import RempartError
from rempart.sdk.spiffe import fetch_jwt_svid, fetch_x509_svid, fetch_x509_svids

MINE = f"unix:uid:{os.getuid()}"
Pair = tuple[IdentityProcess, IdentityProcess]


@pytest.fixture(scope="module")
def database() -> Iterator[PrivatePostgres]:
    with private_postgres() as server:
        yield server


@contextlib.contextmanager
def several(database: PrivatePostgres, count: int = 2) -> Iterator[list[IdentityProcess]]:
    state = {"database": database.conninfo, "shared_key": "5e" * 32}
    with contextlib.ExitStack() as held:
        yield [held.enter_context(running_identity(state=state)) for _ in range(count)]


@pytest.fixture(scope="module")
def pair(database: PrivatePostgres) -> Iterator[Pair]:
    with several(database) as (one, two):
        yield one, two


def emptied(database: PrivatePostgres) -> None:
    """For another trust domain, or another key, than it had until now."""
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")


def bundle(identity: IdentityProcess) -> dict[str, Any]:
    return dict(identity.admin("GET", "/bundle").json())


def entry(name: str, **more: Any) -> dict[str, Any]:
    return {"spiffe_id": f"spiffe://{TRUST_DOMAIN}{name}", "selectors": [MINE], "hint": name[1:], **more}


def apply(identity: IdentityProcess, *entries: dict[str, Any], **more: Any) -> Any:
    return identity.admin("POST", "/entries", {"entries": list(entries), **more})


def ids(identity: IdentityProcess) -> set[str]:
    return {one["spiffe_id"] for one in identity.admin("GET", "/entries").json()["entries"] if not one["fixed"]}


def trusts(verifier: IdentityProcess, shown: IdentityProcess) -> bool:
    """Does a workload of `verifier` accept one of `shown`, in X.509 and as a JWT?"""
    trust = fetch_x509_svid(verifier.endpoint).roots
    svid = fetch_x509_svid(shown.endpoint)
    verify_svid(svid.chain, trust, trust_domain=TRUST_DOMAIN, now=time.time())
    token = fetch_jwt_svid("a", f"spiffe://{TRUST_DOMAIN}/test", endpoint=shown.endpoint).token
    return validated(verifier, token) == f"spiffe://{TRUST_DOMAIN}/test"


def gives(identity: IdentityProcess, name: str) -> bool:
    """Has this process that identity there?"""
    try:
        fetch_jwt_svid("a", f"spiffe://{TRUST_DOMAIN}{name}", endpoint=identity.endpoint)
    except RempartError:
        return False
    return True


def validated(identity: IdentityProcess, token: str) -> str:
    import asyncio

    from rempart.sdk.spiffe import WorkloadApi

    async def ask() -> str:
        async with WorkloadApi(identity.endpoint) as api:
            return (await api.validate_jwt_svid(token, "a"))[0]

    return asyncio.run(ask())


def test_they_publish_one_bundle_and_trust_each_other_from_the_first_moment(pair: Pair) -> None:
    one, two = pair
    assert trusts(one, two)
    assert trusts(two, one)
    eventually(lambda: bundle(one) == bundle(two))
    assert len([key for key in bundle(one)["keys"] if key["use"] == "x509-svid"]) == 2
    servers = one.admin("GET", "/servers").json()["servers"]
    assert [(server["this"], server["alive"]) for server in servers].count((False, True)) == 1


def test_an_entry_applied_at_one_is_pushed_by_the_other_within_a_second(pair: Pair) -> None:
    one, two = pair
    assert apply(one, entry("/pushed")).status_code == 200
    began = time.monotonic()
    eventually(lambda: gives(two, "/pushed"), within=5)
    assert time.monotonic() - began < 1.0
    assert two.admin("DELETE", f"/entries/spiffe://{TRUST_DOMAIN}/pushed").status_code == 200
    assert f"spiffe://{TRUST_DOMAIN}/pushed" not in ids(one)


def test_changes_at_both_at_once_are_all_there_and_none_is_lost(pair: Pair) -> None:
    names = [f"/race{n}" for n in range(16)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: apply(pair[n % 2], entry(names[n])), range(16)))
    assert {answer.status_code for answer in answers} == {200}
    assert ids(pair[0]) == ids(pair[1]) >= {f"spiffe://{TRUST_DOMAIN}{name}" for name in names}
    assert apply(pair[0], entry("/race0"), prune=True).status_code == 200
    assert ids(pair[1]) == {f"spiffe://{TRUST_DOMAIN}/race0"}


def test_one_is_killed_and_nobody_notices(database: PrivatePostgres) -> None:
    with several(database) as (one, two):
        apply(two, entry("/both"))
        token = fetch_jwt_svid("a", f"spiffe://{TRUST_DOMAIN}/test", endpoint=one.endpoint).token
        svid = fetch_x509_svid(one.endpoint)
        failures: list[BaseException] = []
        stop = threading.Event()

        def use() -> None:
            while not stop.is_set():
                try:
                    trust = fetch_x509_svid(two.endpoint).roots
                    verify_svid(svid.chain, trust, trust_domain=TRUST_DOMAIN, now=time.time())
                    assert validated(two, token)
                except (RempartError, OSError, AssertionError) as error:
                    failures.append(error)

        using = threading.Thread(target=use)
        using.start()
        try:
            one.stop(signal.SIGKILL)
            assert apply(two, entry("/later")).status_code == 200
            two.admin("POST", "/authorities/jwt/rotate")
            two.admin("POST", "/authorities/spiffe/rotate")
            one.start()
            assert ids(one) == ids(two)
            eventually(lambda: trusts(one, two) and trusts(two, one))
        finally:
            stop.set()
            using.join()
        assert not failures


def test_a_root_is_replaced_at_one_only_when_the_other_tells_its_workloads(database: PrivatePostgres) -> None:
    with several(database) as (one, two):
        os.kill(two.process.pid, signal.SIGSTOP)  # type: ignore[union-attr]  # it runs
        try:
            one.supervisor.rotate_root("spiffe", overlap=1)
            time.sleep(4)  # longer than the overlap, shorter than until it counts as dead
            described = one.admin("GET", "/authorities").json()["authorities"][0]
            assert described["root_rotation"]["phase"] == "prepared"
            assert described["root_rotation"]["activate_at"] is None
        finally:
            os.kill(two.process.pid, signal.SIGCONT)  # type: ignore[union-attr]  # as above

        def phase() -> str:
            return str(one.admin("GET", "/authorities").json()["authorities"][0]["root_rotation"]["phase"])

        eventually(lambda: phase() == "retiring", within=20)
        eventually(lambda: trusts(two, one) and trusts(one, two))


def test_without_the_database_identities_go_on_changes_wait_and_all_recovers(database: PrivatePostgres) -> None:
    with several(database) as (one, two):
        apply(one, entry("/before"))
        eventually(lambda: ids(two) >= {f"spiffe://{TRUST_DOMAIN}/before"})
        database.stop()
        try:
            assert trusts(one, two)
            answer = apply(two, entry("/refused"))
            assert answer.status_code == 503
            assert answer.json()["code"] == "store_unavailable"
            assert two.admin("POST", "/authorities/jwt/rotate").status_code == 503
            assert f"spiffe://{TRUST_DOMAIN}/before" in ids(one)
            assert gives(two, "/before")
            one.admin("POST", "/authorities/spiffe/rotate")  # a new issuing CA needs nobody else
            assert trusts(two, one)
            eventually(lambda: "can't be used" in json.dumps(two.events()), within=20)
        finally:
            database.start()
        eventually(lambda: apply(two, entry("/after")).status_code == 200, within=20)
        eventually(lambda: f"spiffe://{TRUST_DOMAIN}/after" in ids(one), within=20)
        eventually(lambda: "answers again" in json.dumps(two.events()), within=20)


def test_nothing_of_an_entry_can_be_read_in_the_database(pair: Pair, database: PrivatePostgres) -> None:
    apply(pair[0], entry("/confidential"))
    with psycopg.connect(database.conninfo) as connection:
        rows = connection.execute("SELECT sealed FROM workload_entries").fetchall()
        rows += connection.execute("SELECT sealed FROM workload_servers").fetchall()
    assert rows
    assert not any(b"confidential" in row[0] or b"BEGIN CERT" in row[0] for row in rows)


def test_two_whole_systems_are_one_trust_domain(database: PrivatePostgres) -> None:
    settings = f"""
[workloads]
database = "postgresql://postgres@/postgres?host={database.directory}"
shared_key = "${{WORKLOADS_KEY}}"
"""
    with contextlib.ExitStack() as held:
        app = write_tiny(held.enter_context(short_directory("ss")) / "app", TINY + settings)
        emptied(database)
        environment = {"WORKLOADS_KEY": "6f" * 32}
        one, two = (held.enter_context(running(app, env=environment)) for _ in range(2))
        file = one.state.parent / "entries.yaml"
        file.write_text("- {spiffe_id: spiffe://tiny.example/batch, selectors: ['unix:uid:64300']}\n")
        applied = one.run("entry", "apply", str(file))
        assert applied.returncode == 0, applied.stderr
        assert "spiffe://tiny.example/batch" in two.run("entry", "list").stdout
        shown = json.loads(two.run("bundle", "servers", "--json").stdout)["servers"]
        assert [server["alive"] for server in shown] == [True, True]
        bundles = [json.loads(system.run("bundle", "show", "--json").stdout)["bundle"] for system in (one, two)]
        assert bundles[0] == bundles[1]
        assert "6f6f" not in (one.state / "logs" / "identity.log").read_text()


def test_an_agent_that_knows_both_goes_on_when_one_is_killed(database: PrivatePostgres) -> None:
    """It joined at the first, which dies: new entries, tokens and the agent's events go by the second."""
    emptied(database)
    state = {"database": database.conninfo, "shared_key": "5e" * 32}
    ports = free_port(), free_port()
    with (
        running_identity(state=state, agents=("127.0.0.1", ports[0])) as one,
        running_identity(state=state, agents=("127.0.0.1", ports[1])) as two,
        running_agent(one, ports[0], also=[ports[1]]) as (agent, name),
    ):
        assert apply(one, entry("/failover", parent_id=name)).status_code == 200
        eventually(lambda: serial(agent, "/failover"), within=20)
        one.stop(signal.SIGKILL)
        assert serial(agent, "/failover")  # nobody waits
        assert apply(two, entry("/afterwards", parent_id=name)).status_code == 200
        eventually(lambda: serial(agent, "/afterwards"), within=60)
        token = eventually(lambda: _token(agent, "/failover"), within=60)
        assert validated(two, token) == f"spiffe://{TRUST_DOMAIN}/failover"
        assert [known["spiffe_id"] for known in two.admin("GET", "/agents").json()["agents"]].count(name) == 1
        eventually(lambda: agent.status()["server_away_since"] is None, within=60)
        told = {
            event["unmapped"]["rempart"].get("details", {}).get("agent")
            for event in eventually(lambda: [e for e in two.events() if _of_agent(e)], within=60)
        }
        assert told == {name}


def serial(agent: AgentProcess, name: str) -> str:
    """Of the SVID that this process has there; "" for none."""
    try:
        found = fetch_x509_svids(agent.endpoint)
    except RempartError:
        return ""
    wanted = f"spiffe://{TRUST_DOMAIN}{name}"
    return next((Certificate.parse(one.chain[0]).serial for one in found if one.spiffe_id == wanted), "")


def _token(agent: AgentProcess, name: str) -> str:
    try:
        return fetch_jwt_svid("a", f"spiffe://{TRUST_DOMAIN}{name}", endpoint=agent.endpoint).token
    except RempartError:
        return ""


def _of_agent(event: dict[str, Any]) -> bool:
    return bool(event["unmapped"]["rempart"].get("service") == "agent")
