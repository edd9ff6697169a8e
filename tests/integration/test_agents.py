"""Server and agent as two real processes: joining, serving, going on without the server, being banned."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.agent_support import AgentProcess, entry_for, make_token, running_agent, write_bundle
from tests.identity_support import TRUST_DOMAIN, IdentityProcess, running_identity
from tests.support import eventually, free_port, short_directory
from tests.x509pop import HostsCa

from rempart.crypto.jose import SigningKey
from rempart.crypto.x509 import Certificate
from rempart.kernel.errors import Denied, RempartError, Unavailable
from rempart.sdk.spiffe import WorkloadApi, fetch_jwt_svid, fetch_x509_svid, fetch_x509_svids
from rempart.workloads import authority


@pytest.fixture
def port() -> int:
    return free_port()


@contextlib.contextmanager
def serving(port: int, path: str = "/batch", **more: Any) -> Iterator[tuple[IdentityProcess, AgentProcess, str]]:
    with (
        running_identity([], agents=("127.0.0.1", port), **more) as identity,
        running_agent(identity, port) as (agent, name),
    ):
        register(identity, entry_for(name, path))
        eventually(lambda: has_identity(agent), within=5)
        yield identity, agent, name


def register(identity: IdentityProcess, *entries: dict[str, Any]) -> None:
    assert identity.admin("POST", "/entries", {"entries": list(entries)}).status_code == 200


def has_identity(agent: AgentProcess) -> bool:
    try:
        return bool(fetch_x509_svids(agent.endpoint))
    except (Denied, Unavailable):
        return False


def refused(identity: IdentityProcess) -> list[str]:
    return [
        one["unmapped"]["rempart"].get("code", "")
        for one in identity.events()
        if one["unmapped"]["rempart"]["type"] == "workloads.agent_refused"
    ]


def test_an_agent_serves_its_own_entries_and_no_others(port: int) -> None:
    with serving(port) as (identity, agent, name):
        register(identity, entry_for("", "/here"), entry_for(name + "x", "/elsewhere"))
        assert [svid.spiffe_id for svid in fetch_x509_svids(agent.endpoint)] == [f"spiffe://{TRUST_DOMAIN}/batch"]
        assert [svid.spiffe_id for svid in fetch_x509_svids(identity.endpoint)] == [f"spiffe://{TRUST_DOMAIN}/here"]
        assert agent.status()["spiffe_id"] == name
        assert agent.status()["entries"] == 1
        token = fetch_jwt_svid("somebody", endpoint=agent.endpoint)
        assert token.spiffe_id == f"spiffe://{TRUST_DOMAIN}/batch"


def test_an_entry_is_an_identity_within_a_second_and_none_when_deleted(port: int) -> None:
    with serving(port) as (identity, agent, name):
        begun = time.monotonic()
        register(identity, entry_for(name, "/second", hint="two"))
        eventually(lambda: len(fetch_x509_svids(agent.endpoint)) == 2, within=3)
        assert time.monotonic() - begun < 1.5  # the issue asks for one; half of one is for two busy cores
        for entry in identity.admin("GET", "/entries").json()["entries"]:
            identity.admin("DELETE", f"/entries/{entry['id']}")
        eventually(lambda: not has_identity(agent), within=5)


def test_what_the_agent_gives_is_in_the_servers_record(port: int) -> None:
    with serving(port) as (identity, _, name):

        def told() -> bool:
            own = [one["unmapped"]["rempart"] for one in identity.events()]
            issued = [one for one in own if one["type"] == "workloads.svid_issued" and one.get("service") == "agent"]
            return any(one["details"]["agent"] == name and one["details"]["pid"] == os.getpid() for one in issued)

        eventually(told, within=10)


def test_an_agent_restarts_without_a_token_and_is_the_same(port: int) -> None:
    with serving(port) as (_, agent, name):
        before = agent.status()
        for how in (signal.SIGKILL, signal.SIGTERM):
            agent.stop(how)
            agent.start()
            assert agent.status()["spiffe_id"] == name
            eventually(lambda: has_identity(agent), within=5)
        assert agent.status()["svid_expires_at"] == before["svid_expires_at"]
        assert b"BEGIN" not in (agent.state / "data" / "agent.sealed").read_bytes()


def test_a_server_that_was_killed_finds_its_agents_again(port: int) -> None:
    with serving(port) as (identity, agent, name):
        held = fetch_x509_svid(agent.endpoint)
        identity.stop(signal.SIGKILL)
        assert fetch_x509_svid(agent.endpoint).chain == held.chain
        eventually(lambda: agent.status()["server_away_since"], within=40)
        identity.start()
        register(identity, entry_for(name, "/second", hint="two"))
        eventually(lambda: len(fetch_x509_svids(agent.endpoint)) == 2, within=40)
        assert fetch_x509_svid(agent.endpoint).chain == held.chain  # nothing was signed anew for that


def test_a_banned_agents_workloads_stop_and_go_on_when_it_is_lifted(port: int) -> None:
    with serving(port) as (identity, agent, name):
        short = name.rpartition("/rempart/agent/")[2]
        assert identity.admin("POST", f"/agents/ban/{short}").json()["banned"] is True
        eventually(lambda: not has_identity(agent), within=5)
        assert agent.process is not None
        assert agent.process.poll() is None
        eventually(lambda: "agent_banned" in refused(identity), within=5)
        identity.admin("POST", f"/agents/unban/{short}")
        eventually(lambda: has_identity(agent), within=60)


def test_an_evicted_agent_ends_and_its_svid_opens_nothing(port: int) -> None:
    with serving(port) as (identity, agent, name):
        assert identity.admin("DELETE", f"/agents/{name}").json()["evicted"]["spiffe_id"] == name
        assert agent.process is not None
        assert agent.process.wait(10) == 1
        assert "agent_unknown" in agent.log
        agent.start(wait=False)  # it still has an SVID that is valid for an hour, and a token that was used
        assert agent.process.wait(10) == 1
        assert identity.admin("GET", "/agents").json()["agents"] == []
        make_token(identity, agent.directory, name=name.rpartition("/")[2])
        agent.start()
        eventually(lambda: has_identity(agent), within=20)


def test_a_token_is_good_once(port: int) -> None:
    with serving(port) as (identity, agent, _), short_directory("rpag") as other:
        second = AgentProcess(other, agent.arguments)
        second.start(wait=False)
        assert second.process is not None
        assert second.process.wait(10) == 1
        assert "join_token_refused" in second.log
        eventually(lambda: "join_token_refused" in refused(identity), within=5)


def test_agents_join_by_certificate_are_grouped_and_come_back_after_an_eviction(port: int, tmp_path: Path) -> None:
    ca = HostsCa(tmp_path)
    with (
        running_identity([], agents=("127.0.0.1", port), settings_agents={"x509pop_roots": ca.pem}) as identity,
        short_directory("rpag") as directory,
    ):
        certificate, key = ca.host("host-7")
        bundle = write_bundle(identity, directory)
        arguments = ["--server", f"127.0.0.1:{port}", "--trust-domain", TRUST_DOMAIN, "--bundle", str(bundle)]
        agent = AgentProcess(directory, [*arguments, "--x509pop", str(certificate), str(key)])
        agent.start()
        try:
            (known,) = identity.admin("GET", "/agents").json()["agents"]
            assert known["method"] == "x509pop"
            assert "x509pop:subject:cn:host-7" in known["facts"]
            register(identity, entry_for(known["spiffe_id"], "/batch"))
            eventually(lambda: has_identity(agent), within=5)
            group = f"spiffe://{TRUST_DOMAIN}/hosts/all"
            alias = {"spiffe_id": group, "parent_id": f"spiffe://{TRUST_DOMAIN}/rempart/server"}
            alias["selectors"] = ["x509pop:subject:cn:host-7"]
            register(identity, alias, entry_for(group, "/group", hint="group"))
            eventually(lambda: len(fetch_x509_svids(agent.endpoint)) == 2, within=10)
            shown = identity.admin("GET", f"/agents/{known['spiffe_id']}").json()["entries"]
            assert {one["spiffe_id"].rpartition("/")[2] for one in shown} == {"batch", "group"}
            identity.admin("DELETE", f"/agents/{known['spiffe_id']}")
            eventually(lambda: not has_identity(agent), within=5)
            eventually(lambda: has_identity(agent), within=20)
        finally:
            agent.stop()


def test_an_agent_joins_by_an_svid_it_already_has(port: int) -> None:
    allowed = {"svid": [f"spiffe://{TRUST_DOMAIN}/test"]}
    with (
        running_identity(agents=("127.0.0.1", port), settings_agents=allowed) as identity,
        short_directory("rpag") as directory,
    ):
        svid = fetch_x509_svid(identity.endpoint)
        (directory / "svid.pem").write_bytes(svid.certificate_pem().encode())
        (directory / "key.pem").write_bytes(svid.private_key_pem().encode())
        bundle = write_bundle(identity, directory)
        arguments = ["--server", f"127.0.0.1:{port}", "--trust-domain", TRUST_DOMAIN, "--bundle", str(bundle)]
        agent = AgentProcess(directory, [*arguments, "--svid", str(directory / "svid.pem"), str(directory / "key.pem")])
        agent.start()
        try:
            assert agent.status()["spiffe_id"] == f"spiffe://{TRUST_DOMAIN}/rempart/agent/svid/test"
        finally:
            agent.stop()


def test_a_forged_bundle_is_believed_by_no_server(port: int) -> None:
    """An agent that was given another domain's bundle sends its token to nobody."""
    with (
        running_identity([], agents=("127.0.0.1", port)) as identity,
        running_identity([]) as forger,
        short_directory("rpag") as directory,
    ):
        token, _ = make_token(identity, directory)
        bundle = write_bundle(forger, directory)
        arguments = ["--server", f"127.0.0.1:{port}", "--trust-domain", TRUST_DOMAIN, "--bundle", str(bundle)]
        agent = AgentProcess(directory, [*arguments, "--join-token-file", str(token)])
        agent.start(wait=False)
        assert agent.process is not None
        assert agent.process.wait(30) == 3
        assert "server_away" in agent.log
        right = AgentProcess(
            directory, [*arguments[:-1], str(write_bundle(identity, directory)), "--join-token-file", str(token)]
        )
        right.start()
        right.stop()


def test_nothing_is_trusted_without_being_told(port: int) -> None:
    with short_directory("rpag") as directory:
        agent = AgentProcess(directory, ["--server", f"127.0.0.1:{port}", "--trust-domain", TRUST_DOMAIN])
        agent.start(wait=False)
        assert agent.process is not None
        assert agent.process.wait(10) == 2
        assert "no_bundle" in agent.log


def test_roots_are_replaced_under_agents(port: int) -> None:
    with serving(port, svid_ttl=20) as (identity, agent, _):
        before = fetch_x509_svid(agent.endpoint)
        identity.supervisor.rotate_root("spiffe", overlap=2)

        def below_the_new_root() -> bool:
            now = fetch_x509_svid(agent.endpoint)
            assert Certificate.parse(now.chain[0]).not_after > time.time()
            return now.chain[1] != before.chain[1] and len(now.roots) == 2

        eventually(below_the_new_root, within=20)
        eventually(lambda: agent.status()["server_away_since"] is None, within=10)
        agent.stop()
        agent.start()  # its connections are new, and so is the root above the server's certificate
        eventually(lambda: has_identity(agent), within=5)


def test_an_agent_takes_tokens_of_a_system_that_is_moved_away_from_until_that_is_over(port: int) -> None:
    """What `rempart migrate spire` adopts; a real SPIRE's are tried at the server (test_spire_migration.py)."""
    spire, now = SigningKey.generate("ES256"), int(time.time())
    claims = {"sub": f"spiffe://{TRUST_DOMAIN}/old", "aud": "a", "iat": now, "exp": now + 600}
    token = spire.sign({**claims, "iss": "https://spire.example"}, typ="JWT")
    root, _ = authority.create_root("spiffe", TRUST_DOMAIN, now=now)
    jwk = {name: str(value) for name, value in spire.public_jwk().items()}

    async def validated(endpoint: str) -> str:
        async with WorkloadApi(endpoint) as api:
            return (await api.validate_jwt_svid(token, "a"))[0]

    def takes(agent: AgentProcess) -> bool:
        try:
            return asyncio.run(validated(agent.endpoint)).endswith("/old")
        except RempartError:
            return False

    with serving(port) as (identity, agent, _):
        assert not takes(agent)
        adopted = {"roots": [root], "keys": [jwk], "until": now + 3600}
        assert identity.admin("POST", "/adopted/spire", adopted).status_code == 200
        eventually(lambda: takes(agent), within=20)
        assert len(fetch_x509_svid(agent.endpoint).roots) == 2
        assert identity.admin("DELETE", "/adopted/spire").status_code == 200
        eventually(lambda: not takes(agent), within=20)


def test_a_state_that_was_changed_is_noticed(port: int) -> None:
    with serving(port) as (_, agent, _):
        agent.stop()
        sealed = agent.state / "data" / "agent.sealed"
        data = bytearray(sealed.read_bytes())
        data[-1] ^= 1
        sealed.write_bytes(bytes(data))
        agent.start(wait=False)
        assert agent.process is not None
        assert agent.process.wait(10) == 1
        assert json.loads(agent.log.splitlines()[-1])["code"] == "agent_state_broken"


def test_errors_of_the_agent_are_ours(port: int) -> None:
    with serving(port) as (identity, _, _):
        for name in ("nobody", "spiffe://other/x", "..", "%2e%2e"):
            answer = identity.admin("GET", f"/agents/{name}")
            assert answer.status_code in (404, 400), answer.text
        for asked in ({"ttl": 0}, {"ttl": "x"}, {"ttl": 1e9}, {"name": "a/b"}, {"name": 7}, {"name": "x" * 200}):
            assert identity.admin("POST", "/agents/tokens", asked).status_code == 400
    assert issubclass(Denied, RempartError)
