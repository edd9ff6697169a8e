from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from rempart.kernel.errors import BadInput
from rempart.wiring.plan import Options, Roots, make_plan
from rempart.wiring.plan_hosts import Elsewhere
from rempart.wiring.plan_model import Plan
from rempart.wiring.ports import Ports
from rempart.wiring.process_workloads import HostSettings
from rempart.wiring.settings import parse

APP = """
[app]
name = "bank"
trust_domain = "bank.example"
[workloads.agents]
listen = "10.0.0.1:8081"
[[host]]
name = "host-b"
address = "10.0.0.2"
[[service]]
name = "wallet"
command = ["python", "-m", "wallet"]
socket = "wallet.sock"
routes = ["/wallet"]
host = "host-b"
[[service]]
name = "payment"
command = ["python", "-m", "payment"]
socket = "payment.sock"
routes = ["/payments"]
calls = ["wallet"]
"""
AGENT = "spiffe://bank.example/rempart/agent/join_token/host-b"
STATE = Path("/s")


def plan(elsewhere: Elsewhere | None = None, text: str = APP) -> Plan:
    ports = Ports({}, set(), lambda *_: True)
    options = Options(state=STATE, python="python", elsewhere=elsewhere)
    return make_plan(parse(text, Path("/app")), options, ports, Roots(spiffe="S", web="W"))


def told(near: Plan) -> HostSettings:
    """As identity tells the agent."""
    return HostSettings(**near.process("identity").settings["hosts"][AGENT])  # type: ignore[index]  # it has settings


def far(near: Plan) -> Plan:
    return plan(Elsewhere(told(near), (("10.0.0.1", 8081),)))


def names(made: Plan) -> set[str]:
    return {process.name for process in made.processes}


def clusters(made: Plan, name: str) -> dict[str, str]:
    """Of an Envoy: its clusters over TCP, and where they lead."""
    config = made.process(name).config or {}
    found = {}
    for cluster in config["static_resources"]["clusters"]:
        place = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]
        if "socket_address" in place:
            found[cluster["name"]] = f"{place['socket_address']['address']}:{place['socket_address']['port_value']}"
    return found


def listens(made: Plan, name: str) -> set[str]:
    config = made.process(name).config or {}
    addresses = (one["address"] for one in config["static_resources"]["listeners"])
    return {one["socket_address"]["address"] for one in addresses if "socket_address" in one}


def test_each_host_runs_what_is_its_own() -> None:
    near = plan()
    assert {"payment", "payment-sidecar", "people", "identity", "gateway"} <= names(near)
    assert not {"wallet", "wallet-sidecar"} & names(near)
    there = far(near)
    assert names(there) == {"host-agent", "pdp", "wallet", "wallet-sidecar"}
    assert not there.authority
    points = there.process("pdp").settings["points"]  # type: ignore[index]  # it has settings
    assert [point["name"] for point in points] == ["wallet"]
    assert "wallet" not in {point["name"] for point in near.process("pdp").settings["points"]}  # type: ignore[index]  # as above


def test_they_find_each_other_by_the_same_ports() -> None:
    near = plan()
    ports = told(near).ports
    there = far(near)
    assert f"10.0.0.2:{ports['wallet']}" in clusters(near, "gateway").values()
    assert f"10.0.0.2:{ports['wallet']}" in clusters(near, "payment-sidecar").values()
    assert f"10.0.0.1:{ports['people']}" in clusters(there, "wallet-sidecar").values()
    assert listens(there, "wallet-sidecar") == {"10.0.0.2"}
    assert listens(near, "people-sidecar") == {"10.0.0.1"}  # whose keys every sidecar fetches
    assert listens(near, "payment-sidecar") == {"127.0.0.1"}  # nobody over there calls it


def test_entries_of_the_other_host_have_its_agent_as_their_parent() -> None:
    entries = plan().process("identity").settings["entries"]  # type: ignore[index]  # it has settings
    parents = {(one["spiffe_id"].rpartition("/")[2], one["parent_id"]) for one in entries}
    assert ("wallet", AGENT) in parents
    assert ("wallet", "") not in parents
    assert ("payment", "") in parents


def test_both_pdps_are_told_the_same_but_for_their_points() -> None:
    near = plan()
    here, there = (dict(one.process("pdp").settings or {}) for one in (near, far(near)))
    for own in ("points", "policy_dir", "epochs_sockets"):
        del here[own], there[own]
    assert here == there


def test_an_agent_may_speak_for_the_programs_of_its_host_only() -> None:
    assert told(plan()).services == ["wallet"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('host = "host-b"', 'host = "host-c"', "there is no host 'host-c'"),
        ('address = "10.0.0.2"', 'address = "0.0.0.0"', "no address of a host"),
        ('address = "10.0.0.2"', 'address = "b.example"', "no address of a host"),
        ('address = "10.0.0.2"', 'address = "10.0.0.2"\nagent = "../x"', "no name of an agent"),
        ('[workloads.agents]\nlisten = "10.0.0.1:8081"\n', "", "other hosts need a way to this one"),
    ],
)
def test_what_makes_no_sense_is_refused(old: str, new: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        plan(text=APP.replace(old, new))


def test_a_name_is_no_address_for_sidecars() -> None:
    near = plan(text=APP.replace("10.0.0.1:8081", "0.0.0.0:8081"))
    with pytest.raises(BadInput) as refused:
        plan(Elsewhere(told(near), (("gateway.bank.example", 8081),)))
    assert refused.value.code == "no_address"
    assert plan(Elsewhere(told(near), (("10.0.0.1", 8081),))).processes


@pytest.mark.parametrize(("svid_ttl", "longest"), [(86400, "900"), (3600, "900"), (100, "25"), (5, "5")])
def test_no_connection_outlives_an_svid_by_more_than_a_quarter_of_its_life(svid_ttl: int, longest: str) -> None:
    """Else a host that was banned would be answered, and answer, for as long as it stays connected."""
    text = APP + f"\n[identity]\nsvid_ttl = {svid_ttl}\n"
    near = plan(text=text)
    for made in (near, plan(Elsewhere(told(near), (("10.0.0.1", 8081),)), text=text)):
        for process in made.processes:
            if (process.config is not None and "sidecar" in process.name) or process.name == "gateway":
                found = set(re.findall(r'"max_connection_duration": "([^"]*)"', json.dumps(process.config)))
                assert found == {f"{longest}.000s"}, process.name
