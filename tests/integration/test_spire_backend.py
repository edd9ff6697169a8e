"""`[workloads] backend = "spire"`: a whole system whose identities a real SPIRE gives, and the way from SPIRE to us."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import TINY, Running, rempart, running, write_tiny
from tests.spire import AGENT, SERVER, PrivateSpire, private_spire, spire_is_missing
from tests.support import eventually, short_directory

pytestmark = [
    pytest.mark.skipif(bool(spire_is_missing()), reason=f"SPIRE can't be run: {spire_is_missing()}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="SPIRE tells processes apart by their users: needs root"),
]
DOMAIN = "tiny.example"
CALL = "import os, httpx, urllib.parse as u; s = os.environ['REMPART_HELLO_URL']; " + (
    "c = httpx.Client(transport=httpx.HTTPTransport(uds=u.unquote(s.removeprefix('http+unix://')))); "
    "r = c.get('http://hello/hello', timeout=10); print(r.status_code, r.text)"
)
SVID = "from rempart.sdk.spiffe import *; s = fetch_x509_svid(); print(s.spiffe_id, fetch_jwt_svid('a').token)"


@pytest.fixture(scope="module")
def spire() -> Iterator[PrivateSpire]:
    with private_spire(DOMAIN) as spire:
        yield spire


@pytest.fixture(scope="module")
def system(spire: PrivateSpire) -> Iterator[Running]:
    settings = f"""
[workloads]
backend = "spire"
[workloads.spire]
agent_socket = "{spire.agent_socket}"
server_socket = "{spire.server_socket}"
parent_id = "{spire.agent_id}"
"""
    with short_directory("sb") as directory, running(write_tiny(directory / "app", TINY + settings)) as system:
        yield system


def entry(system: Running, *arguments: str, code: int = 0) -> Any:
    done = system.run("entry", *arguments, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout) if done.stdout else done.stderr


def call(system: Running) -> str:
    done = system.run("run", "agent", "--", sys.executable, "-c", CALL, cwd="/")
    return done.stdout + done.stderr


def test_sidecars_and_programs_have_the_identities_that_spire_gives(system: Running, spire: PrivateSpire) -> None:
    answer = eventually(lambda: (text := call(system)).startswith("200") and text, within=30)
    assert f"spiffe://{DOMAIN}/agent" in answer
    shown = system.run("run", "agent", "--", sys.executable, "-c", SVID, cwd="/")
    assert shown.stdout.startswith(f"spiffe://{DOMAIN}/agent ey"), shown.stderr
    listed = spire.ask("entry", "show")["entries"]
    ours = [one for one in listed if one["id"].startswith("rempart.toml-")]
    assert {one["spiffe_id"]["path"] for one in ours} >= {"/hello", "/agent", "/rempart/gateway", "/rempart/people"}
    assert {selector["type"] for one in ours for selector in one["selectors"]} == {"unix"}
    users = [tuple(selector["value"] for selector in one["selectors"]) for one in ours]
    assert len(set(users)) == len(users)  # nobody has another one's


def test_entries_are_applied_to_spire_shown_and_deleted(system: Running, spire: PrivateSpire, tmp_path: Path) -> None:
    spire.ask(
        *("entry", "create", "-parentID", spire.agent_id, "-spiffeID", f"spiffe://{DOMAIN}/foreign"),
        *("-selector", "unix:uid:4711", "-selector", "unix:sha256:" + "0" * 64),
    )
    file = tmp_path / "entries.yaml"
    file.write_text(
        f"- spiffe_id: spiffe://{DOMAIN}/batch\n  selectors: ['unix:uid:64200']\n  ttl: {{x509: 600, jwt: 60}}\n"
        "  dns_names: [batch.internal]\n  hint: internal\n"
    )
    assert len(entry(system, "apply", str(file), "--dry-run", code=1)["created"]) == 1
    assert len(entry(system, "apply", str(file))["created"]) == 1
    (made,) = [one for one in spire.ask("entry", "show")["entries"] if one["spiffe_id"]["path"] == "/batch"]
    assert (made["x509_svid_ttl"], made["jwt_svid_ttl"], made["hint"]) == (600, 60, "internal")
    assert made["parent_id"]["path"] == "/host"
    assert len(entry(system, "apply", str(file))["unchanged"]) == 1
    file.write_text(file.read_text().replace("600", "900"))
    assert entry(system, "apply", str(file))["changed"][0]["before"] == {"ttl": 600}
    paths = {one["spiffe_id"].removeprefix(f"spiffe://{DOMAIN}") for one in entry(system, "list")["entries"]}
    assert paths >= {"/batch", "/foreign", "/hello"}
    file.write_text(f"- {{spiffe_id: spiffe://{DOMAIN}/other, selectors: ['unix:uid:64201']}}\n")
    done = entry(system, "apply", str(file), "--prune")
    assert [one["spiffe_id"] for one in done["removed"]] == [f"spiffe://{DOMAIN}/batch"]  # what others made stays
    entry(system, "delete", f"spiffe://{DOMAIN}/other")
    left = {one["spiffe_id"]["path"] for one in spire.ask("entry", "show")["entries"]}
    assert "/foreign" in left
    assert not {"/batch", "/other"} & left


def test_what_spire_cannot_see_is_refused_with_the_reason(system: Running, tmp_path: Path) -> None:
    file = tmp_path / "entries.yaml"
    file.write_text(f"- {{spiffe_id: spiffe://{DOMAIN}/x, selectors: ['supervisor:service:nobody']}}\n")
    assert "spire_selector" in entry(system, "apply", str(file), code=2)


def test_our_own_socket_gives_no_identity(system: Running) -> None:
    script = SVID.replace("()", f"('unix://{system.state}/run/workload.sock')", 1)
    done = system.run("run", "agent", "--", sys.executable, "-c", script, cwd="/")
    assert done.returncode != 0
    assert "spiffe://" not in done.stdout


def test_without_spires_server_all_goes_on_and_changes_are_refused(
    system: Running, spire: PrivateSpire, tmp_path: Path
) -> None:
    file = tmp_path / "entries.yaml"
    file.write_text(f"- {{spiffe_id: spiffe://{DOMAIN}/y, selectors: ['unix:uid:64202']}}\n")
    eventually(lambda: call(system).startswith("200"), within=30)
    spire.stop(SERVER)
    try:
        assert call(system).startswith("200")
        assert "spire_unavailable" in entry(system, "apply", str(file), code=3)
    finally:
        spire.start_server()
    eventually(lambda: rempart("entry", "apply", str(file), state=system.state).returncode == 0, within=20)
    entry(system, "delete", f"spiffe://{DOMAIN}/y")


def test_the_agent_may_restart(system: Running, spire: PrivateSpire) -> None:
    spire.stop(AGENT)
    assert call(system).startswith("200")  # Envoys keep what they have
    spire.start_agent()
    eventually(lambda: call(system).startswith("200"), within=20)


def test_the_bundle_is_spires(system: Running, spire: PrivateSpire) -> None:
    shown = json.loads(system.run("bundle", "show", "--json").stdout)
    theirs = spire.ask("bundle", "show")
    assert json.dumps(shown).count('"x5c"') == len(theirs["x509_authorities"])
