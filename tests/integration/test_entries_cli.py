"""`rempart entry` against a real identity process, and its HTTP face for a CI agent in a whole system."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.identity_support import TRUST_DOMAIN, IdentityProcess, running_identity
from tests.integration.conftest import TINY, Running, rempart, running, write_tiny
from tests.support import short_directory

from rempart.sdk.spiffe import fetch_x509_svids


@pytest.fixture(scope="module")
def identity() -> Iterator[IdentityProcess]:
    with running_identity() as process:
        yield process


def write(directory: Path, name: str, path: str, *lines: str) -> None:
    file = directory / name
    file.parent.mkdir(parents=True, exist_ok=True)
    head = [f"spiffe_id: spiffe://{TRUST_DOMAIN}{path}", f"selectors: ['unix:uid:{os.getuid()}']"]
    file.write_text("\n".join([*head, *lines]) + "\n")


def entry(identity: IdentityProcess, *arguments: str, code: int = 0) -> Any:
    done = rempart("entry", *arguments, "--json", state=identity.directory)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if done.stdout else done.stderr


def test_a_directory_is_planned_applied_and_pruned(identity: IdentityProcess, tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "/batch", "hint: internal")
    write(tmp_path, "below/b.yml", "/report", "hint: external", "ttl: {x509: 120, jwt: 60}")
    write(tmp_path, ".hidden/c.yaml", "/never")
    planned = entry(identity, "apply", str(tmp_path), "--dry-run", code=1)
    assert len(planned["created"]) == 2
    assert len(entry(identity, "list")["entries"]) == 1  # the fixed one
    assert len(entry(identity, "apply", str(tmp_path))["created"]) == 2
    assert len(entry(identity, "apply", str(tmp_path), "--prune", "--dry-run")["unchanged"]) == 2

    svids = {svid.hint: svid for svid in fetch_x509_svids(identity.endpoint)}
    assert {hint: svid.spiffe_id.rpartition("/")[2] for hint, svid in svids.items()} == {
        "": "test",
        "internal": "batch",
        "external": "report",
    }

    write(tmp_path, "below/b.yml", "/report", "hint: outer")
    (tmp_path / "a.yaml").unlink()
    plain = rempart("entry", "apply", str(tmp_path), "--prune", "--dry-run", state=identity.directory)
    assert plain.returncode == 1
    assert f"- spiffe://{TRUST_DOMAIN}/batch" in plain.stdout
    assert "hint: 'external' → 'outer'" in plain.stdout
    done = entry(identity, "apply", str(tmp_path), "--prune")
    assert done["changed"][0]["before"] == {"hint": "external", "ttl": 120, "jwt_ttl": 60}
    assert [one["spiffe_id"] for one in done["removed"]] == [f"spiffe://{TRUST_DOMAIN}/batch"]
    assert {svid.hint for svid in fetch_x509_svids(identity.endpoint)} == {"", "outer"}
    changes = [e["unmapped"]["rempart"] for e in identity.events() if "workloads.entry_changed" in json.dumps(e)]
    assert len(changes) == 4


def test_the_mistakes_of_all_files_are_shown_and_nothing_is_applied(identity: IdentityProcess, tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "/fine")
    write(tmp_path, "b.yaml", "/odd", "tll: 5")
    write(tmp_path, "c.yaml", "/rempart/gateway")
    said = entry(identity, "apply", str(tmp_path), code=2)
    assert "b.yaml:1: unknown key 'tll'" in said
    assert "c.yaml:1" in said
    assert f"spiffe://{TRUST_DOMAIN}/fine" not in json.dumps(entry(identity, "list"))


def test_spires_entries_are_imported(identity: IdentityProcess, tmp_path: Path) -> None:
    def printed(path: str, selector: str) -> dict[str, Any]:
        type_, _, value = selector.partition(":")
        return {
            "id": path,
            "spiffe_id": {"trust_domain": TRUST_DOMAIN, "path": path},
            "parent_id": {"trust_domain": TRUST_DOMAIN, "path": "/spire/agent/join_token/x"},
            "selectors": [{"type": type_, "value": value}],
            "x509_svid_ttl": 300,
        }

    file = tmp_path / "spire.json"
    file.write_text(json.dumps({"entries": [printed("/moved", f"unix:uid:{os.getuid()}"), printed("/x", "aws:x")]}))
    done = rempart("entry", "import", "spire", str(file), "--json", state=identity.directory)
    assert done.returncode == 1
    assert "skipped /x" in done.stderr
    assert [one["ttl"] for one in json.loads(done.stdout)["created"]] == [300]
    assert f"spiffe://{TRUST_DOMAIN}/moved" in {svid.spiffe_id for svid in fetch_x509_svids(identity.endpoint)}


CI = """
[[client]]
name = "ci"
calls = ["identity"]
[[client]]
name = "other"
calls = ["identity"]
[[client]]
name = "stranger"
calls = ["hello"]
[workloads]
public_url = "https://id.tiny.example"
[[workloads.registrar]]
spiffe_id = "spiffe://tiny.example/ci"
paths = ["/jobs"]
"""
CALL = """
import json, os, sys, urllib.parse, httpx
base = os.environ.get("REMPART_IDENTITY_URL", "")
if not base:
    print(json.dumps([0, {"code": "no way"}])); sys.exit()
path = urllib.parse.unquote(base.removeprefix("http+unix://"))
client = httpx.Client(transport=httpx.HTTPTransport(uds=path))
method, where, body, *headers = sys.argv[1:]
answer = client.request(method, "http://identity" + where, content=body or None,
                        headers=dict(one.split("=", 1) for one in headers))
print(json.dumps([answer.status_code, answer.json()]))
"""


@pytest.fixture(scope="module")
def system() -> Iterator[Running]:
    with short_directory() as directory:
        app = write_tiny(directory / "app")
        (app / "rempart.toml").write_text(TINY + CI)
        with running(app, state=directory / "s") as started:
            yield started


def call(system: Running, who: str, method: str, path: str, body: Any = "", *headers: str) -> tuple[int, Any]:
    text = json.dumps(body) if body else ""
    done = system.run("run", who, "--", sys.executable, "-c", CALL, method, path, text, *headers)
    assert done.returncode == 0, done.stderr
    status, answer = json.loads(done.stdout)
    return status, answer


def job(path: str, **more: Any) -> dict[str, Any]:
    return {"spiffe_id": f"spiffe://tiny.example{path}", "selectors": ["unix:uid:4242"], **more}


def test_a_ci_agent_registers_below_its_paths_and_nobody_else_does(system: Running) -> None:
    wanted = {"entries": [job("/jobs/build")], "prune": True}
    status, answer = call(system, "ci", "POST", "/entries", wanted)
    assert (status, len(answer["created"])) == (200, 1), answer
    status, answer = call(system, "ci", "GET", "/entries")
    assert [one["spiffe_id"] for one in answer["entries"]] == ["spiffe://tiny.example/jobs/build"]
    for bad, code in ((job("/hello2"), "outside_registrar"), (job("/jobs/x", admin=True), "privileged_entry")):
        status, answer = call(system, "ci", "POST", "/entries", {"entries": [bad]})
        assert (status, answer["code"]) == (403, code)
    status, answer = call(system, "other", "POST", "/entries", wanted, "x-spiffe-id=spiffe://tiny.example/ci")
    assert (status, answer["code"]) == (403, "not_registrar")
    status, answer = call(system, "stranger", "GET", "/entries")
    assert status == 0
    found = json.loads(
        system.run("audit", "search", "--type", "workloads.entry_changed", "--json").stdout.splitlines()[0]
    )
    assert "spiffe://tiny.example/ci" in json.dumps(found)


def test_an_admin_entry_of_the_operator_makes_a_registrar(system: Running, tmp_path: Path) -> None:
    file = tmp_path / "admin.yaml"
    file.write_text("spiffe_id: spiffe://tiny.example/other\nselectors: ['unix:uid:4243']\nadmin: true\n")
    assert system.run("entry", "apply", str(file)).returncode == 0
    status, answer = call(system, "other", "POST", "/entries", {"entries": [job("/anything")]})
    assert (status, len(answer.get("created", []))) == (200, 1), answer
    status, answer = call(system, "other", "POST", "/entries", {"entries": [job("/ci")]})
    assert (status, answer["code"]) == (403, "declared_id")


@pytest.mark.filterwarnings("ignore:authlib.jose")
def test_a_cloud_takes_jwt_svids_by_discovery_and_key_set(system: Running) -> None:
    """authlib stands for the cloud: it knows the issuer's address and nothing else."""
    import ssl

    import httpx
    from authlib.jose import JsonWebKey, JsonWebToken

    issuer = "https://id.tiny.example/workloads"
    script = "import sys; from rempart.sdk.spiffe import fetch_jwt_svid; print(fetch_jwt_svid(sys.argv[1:]).token)"
    done = system.run("run", "ci", "--", sys.executable, "-c", script, "sts.cloud.example")
    assert done.returncode == 0, done.stderr

    def get(path: str) -> Any:
        context = ssl.create_default_context(cafile=system.ca)
        answer = httpx.get(system.url + path, verify=context, timeout=10)
        assert answer.status_code == 200, answer.text
        assert "max-age=300" in answer.headers["cache-control"]
        return answer.json()

    configuration = get("/workloads/.well-known/openid-configuration")
    assert configuration["issuer"] == issuer
    keys = get(configuration["jwks_uri"].removeprefix("https://id.tiny.example"))
    options = {
        "iss": {"essential": True, "value": configuration["issuer"]},
        "aud": {"essential": True, "value": "sts.cloud.example"},
        "sub": {"essential": True, "value": "spiffe://tiny.example/ci"},
    }
    reader = JsonWebToken(configuration["id_token_signing_alg_values_supported"])
    claims = reader.decode(done.stdout.strip(), JsonWebKey.import_key_set(keys), claims_options=options)
    claims.validate()
    bundle = get("/workloads/bundle")
    assert {key["use"] for key in bundle["keys"]} == {"x509-svid", "jwt-svid"}
    context = ssl.create_default_context(cafile=system.ca)
    assert httpx.get(system.url + "/entries", verify=context).status_code in (401, 403, 404)
    assert httpx.post(system.url + "/workloads/keys", verify=context).status_code in (401, 403, 405)
