"""`[workloads]` of rempart.toml: what it becomes, and what is refused with its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.unit.wiring.test_plan import STATE

from rempart.kernel.errors import BadInput
from rempart.wiring.plan import Options, Roots, make_plan
from rempart.wiring.plan_model import Plan
from rempart.wiring.ports import Ports
from rempart.wiring.settings import AppSettings, parse

APP = '[app]\nname = "bank"\ntrust_domain = "bank.example"\n'
CI = '[[client]]\nname = "ci"\ncalls = ["identity"]\n'


def read(text: str, directory: Path = Path("/app")) -> AppSettings:
    return parse(APP + text, directory)


def plan(text: str) -> Plan:
    free = Ports({}, free=lambda host, port: True)
    return make_plan(read(text), Options(state=STATE), free, Roots(spiffe="S", web="W"))


def test_everything_at_once(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"keys": []}')
    text = """
[workloads]
public_url = "https://bank.example"
docker_socket = "/var/run/docker.sock"
[workloads.kubelet]
url = "https://127.0.0.1:10250"
token = "/var/run/secrets/token"
[workloads.upstream]
cert = "ca.pem"
key = "/etc/ca.key"
[[workloads.registrar]]
spiffe_id = "spiffe://bank.example/ci"
paths = ["/jobs", "/"]
[[workloads.federation]]
trust_domain = "partner.example"
url = "https://partner.example/bundle"
[[workloads.federation]]
trust_domain = "other.example"
url = "https://other.example/bundle"
profile = "https_spiffe"
endpoint_spiffe_id = "spiffe://other.example/endpoint"
bundle = "p.json"
"""
    workloads = read(text, tmp_path).workloads
    assert workloads.upstream is not None
    assert (workloads.upstream.cert, workloads.upstream.key) == (tmp_path / "ca.pem", Path("/etc/ca.key"))
    assert [one.profile for one in workloads.partners] == ["https_web", "https_spiffe"]
    assert workloads.partners[1].bundle == '{"keys": []}'
    assert workloads.registrars[0].paths == ("/jobs", "/")
    assert workloads.kubelet.token == "/var/run/secrets/token"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[workloads]\npublic_url = "http://bank.example"', "public_url"),
        ('[workloads]\npublic_url = "https://bank.example/path"', "public_url"),
        ('[workloads]\ndocker_socket = "relative"', "docker_socket"),
        ("[workloads]\nother = 1", "unknown key 'workloads.other'"),
        ('[workloads.kubelet]\nca = "/x"', "where the kubelet answers is missing"),
        ('[workloads.kubelet]\nurl = "http://10.0.0.1:10255"', "url"),
        ('[workloads.upstream]\ncert = "x"', "'workloads.upstream.key' is missing"),
        ('[[workloads.registrar]]\nspiffe_id = "spiffe://other.example/ci"\npaths = ["/"]', "of this trust domain"),
        ('[[workloads.registrar]]\nspiffe_id = "spiffe://bank.example/ci"', "needs the paths"),
        ('[[workloads.registrar]]\nspiffe_id = "spiffe://bank.example/ci"\npaths = ["jobs"]', "needs the paths"),
        ('[[workloads.federation]]\ntrust_domain = "bank.example"\nurl = "https://x/b"', "this trust domain itself"),
        ('[[workloads.federation]]\ntrust_domain = "p.example"', "nothing says how"),
        ('[[workloads.federation]]\ntrust_domain = "p.example"\nurl = "http://x/b"', "url"),
        ('[[workloads.federation]]\ntrust_domain = "p.example"\nurl = "https://u:p@x/b"', "url"),
        (
            '[[workloads.federation]]\ntrust_domain = "p.example"\nurl = "https://x/b"\nprofile = "https_spiffe"',
            "needs endpoint_spiffe_id",
        ),
        ('[[workloads.federation]]\ntrust_domain = "p.example"\nbundle = "absent.json"', "can't be read"),
        ('[[client]]\nname = "c"\nselectors = ["supervisor:service:x"]', "Rempart's own use"),
        ('[[client]]\nname = "c"\nselectors = ["aws:x"]', "not a selector"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, says: str) -> None:
    with pytest.raises(BadInput, match=says) as refusal:
        read(text)
    assert re.search(r":[4-7]: ", refusal.value.reason)


def test_identity_has_a_sidecar_only_where_somebody_may_reach_it() -> None:
    assert "identity-sidecar" not in [one.name for one in plan("").processes]
    called = plan(CI)
    assert [one.path for one in called.process("identity").sockets if one.name == "api"] == [
        "run/svc/identity/app.sock"
    ]
    assert [one.routes for one in called.exposed if one.name == "identity"] == [()]
    public = plan('[workloads]\npublic_url = "https://bank.example"\n')
    assert [one.routes for one in public.exposed if one.name == "identity"] == [("/workloads",)]


PARTNER = '[[workloads.federation]]\ntrust_domain = "partner.example"\nurl = "https://partner.example/bundle"\n'
FRONT = "spiffe://partner.example/front"
HELLO = f'[[service]]\nname = "hello"\ncommand = ["x"]\nsocket = "a.sock"\ncallers = ["{FRONT}"]\n'
REMOTE = f'[[workloads.remote]]\nname = "abroad"\nspiffe_id = "{FRONT}"\naddress = "10.0.0.7:15001"\n'
ASKS = '[[client]]\nname = "agent"\ncalls = ["abroad"]\n'


def test_who_calls_or_is_called_across_domains_is_given_the_partners_bundle_and_nobody_else() -> None:
    made = plan(PARTNER + HELLO + REMOTE + ASKS + '[[client]]\nname = "other"\ncalls = ["hello"]\n')
    identity = next(process for process in made.processes if process.name == "identity").settings
    given = {entry["spiffe_id"].rpartition("/")[2]: entry["federates_with"] for entry in identity["entries"]}
    assert (given["hello"], given["agent"], given["other"]) == (["partner.example"], ["partner.example"], [])
    pdp = next(process for process in made.processes if process.name == "pdp").settings
    assert pdp["data"]["services"]["hello"]["callers"] == [FRONT]
    assert next(one for one in made.processes if one.name == "agent").env["REMPART_ABROAD_URL"].endswith("abroad.sock")


def test_the_bundle_endpoint_has_a_listener_of_its_own() -> None:
    made = plan('[workloads]\nrefresh_hint = 60\n[workloads.bundle_endpoint]\nlisten = "0.0.0.0:0"\n')
    identity = next(process for process in made.processes if process.name == "identity")
    assert next(one.tcp for one in identity.sockets if one.name == "bundle") == ("0.0.0.0", 8082)
    assert made.tcp_ports["bundle"] == ("0.0.0.0", 8082)
    assert (identity.settings["refresh_hint"], identity.settings["bundle_endpoint"]["profile"]) == (60, "https_spiffe")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HELLO, "partner.example is no partner"),
        (REMOTE + ASKS, "partner.example is no partner"),
        (PARTNER + HELLO.replace(FRONT, "spiffe://bank.example/front"), "no workload of a partner"),
        (PARTNER + HELLO.replace(FRONT, "spiffe://partner.example"), "no workload of a partner"),
        (PARTNER + HELLO.replace(FRONT, "https://x"), "is not a SPIFFE ID"),
        (PARTNER + REMOTE.replace(FRONT, "spiffe://bank.example/front"), "of another trust domain"),
        (PARTNER + REMOTE.replace("10.0.0.7:15001", "partner:15001"), "address"),
        (PARTNER + REMOTE + HELLO.replace('"hello"', '"abroad"'), "is a service here as well"),
        ('[workloads.bundle_endpoint]\nlisten = "0.0.0.0:1"\ncert = "/etc/passwd"\n', "cert and key go together"),
        ('[workloads.bundle_endpoint]\nprofile = "https_web"\ncert = "/etc/passwd"\nkey = "/etc/passwd"\n', "no PEM"),
        ("[workloads]\nrefresh_hint = 1\n", "refresh_hint"),
    ],
)
def test_mistakes_across_domains_are_told(text: str, said: str) -> None:
    with pytest.raises(BadInput) as refusal:
        read(text)
    assert said in refusal.value.reason
