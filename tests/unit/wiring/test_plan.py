from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from rempart.kernel.errors import BadInput, Unavailable
from rempart.wiring.people_state import StateSettings
from rempart.wiring.plan import Options, Roots, make_plan
from rempart.wiring.plan_model import Kind, Plan
from rempart.wiring.plan_names import GatewayNames, public_url, web_names
from rempart.wiring.ports import Ports
from rempart.wiring.settings import parse

APP = """
[app]
name = "bank"
trust_domain = "bank.example"

[[service]]
name = "wallet"
command = ["python", "-m", "wallet"]
socket = "wallet.sock"
routes = ["/wallet"]
calls = ["people"]

[[service]]
name = "payment"
command = ["node", "payment.js"]
port = 18003
routes = ["/payments"]
calls = ["wallet"]

[[client]]
name = "deposit-agent"
calls = ["wallet"]
selectors = ["unix:uid:1000"]
"""
STATE = Path("/s")


def plan(state: Path = STATE, **options: object) -> Plan:
    everything_is_free = Ports({}, free=lambda host, port: True)
    roots = Roots(spiffe="SPIFFE", web="WEB")
    return make_plan(parse(APP, Path("/app")), Options(state=state, **options), everything_is_free, roots)  # type: ignore[arg-type]


def test_every_service_has_a_sidecar_and_every_process_a_name_of_its_own():
    names = [process.name for process in plan().processes]
    assert len(names) == len(set(names))
    for name in ("wallet", "payment", "people", "observer", "deposit-agent"):
        assert f"{name}-sidecar" in names
    assert not plan().process("deposit-agent").supervised


def test_every_process_and_its_sidecar_are_two_components_to_watch():
    made = plan()
    metrics = made.process("observer").settings["metrics"]
    watched = {process.name for process in made.processes if process.kind not in ("service", "client")}
    assert {"people", "people-sidecar", "observer", "observer-sidecar", "gateway", "pdp", "supervisor"} <= set(metrics)
    assert len(set(metrics.values())) == len(metrics)
    assert watched - set(metrics) <= {"root-signer"}


def test_ports_follow_the_order_of_services():
    assert [(one.name, one.mtls) for one in plan().exposed][:2] == [
        ("wallet", "https://127.0.0.1:15001"),
        ("payment", "https://127.0.0.1:15002"),
    ]


def test_a_process_sees_nothing_of_another_ones():
    for process in plan().processes:
        for view in process.sees:
            parts = view.path.split("/")
            if parts[0] in ("data", "journals") and len(parts) > 1:
                assert parts[1] == process.subject
            assert parts[0] not in ("secrets", "logs", "tls")
            assert view.path not in ("run", "run/admin", "run/control.sock", "data")
    assert "run/supervisor.sock" in {view.path for view in plan().process("identity").sees}


def test_a_socket_service_is_reached_over_a_socket_and_a_port_service_is_a_risk():
    wallet, payment = plan().process("wallet"), plan().process("payment")
    assert wallet.env["REMPART_LISTEN"] == "unix:/s/run/svc/wallet/wallet.sock"
    assert wallet.env["REMPART_PEOPLE_URL"] == "http+unix://%2Fs%2Frun%2Fegress%2Fwallet%2Fpeople.sock"
    assert payment.env["REMPART_LISTEN"] == "127.0.0.1:18003"
    assert payment.env["REMPART_WALLET_URL"] == "http://127.0.0.1:16001"
    assert {risk.service for risk in plan().risks} == {"payment"}
    assert {risk.service for risk in plan(profile="production").risks} == {"payment", "people"}  # mails are files


def test_people_tells_the_pdp_and_nobody_else_whose_tokens_are_superseded():
    (told,) = [socket for socket in plan().process("people").sockets if socket.name == "epochs"]
    assert (told.owner, told.mode) == ("pdp", 0o600)
    settings = plan().process("pdp").settings
    assert settings is not None
    assert settings["epochs_sockets"] == [f"/s/{told.path}"]
    assert [p.name for p in plan().processes if told.path in {view.path for view in p.sees}] == ["pdp"]
    assert settings["data"]["roles"]["admin"]["manages"] == ["*"]


def test_further_instances_of_people_stand_behind_the_same_sidecar():
    several = dataclasses.replace(parse(APP, Path("/app")), state=StateSettings(instances=3))
    everything_is_free = Ports({}, free=lambda host, port: True)
    made = make_plan(several, Options(state=STATE), everything_is_free, Roots(spiffe="SPIFFE", web="WEB"))
    third = made.process("people-3")
    assert third.command == made.process("people").command
    assert third.settings == made.process("people").settings
    assert {view.path for view in third.sees} == {"data/people-3", "journals/people-3", "run/workload.sock"}
    api = next(socket for socket in third.sockets if socket.name == "api")
    assert (api.path, api.owner, api.group) == ("run/svc/people/app-3.sock", "people-3", "people")
    told = [f"/s/run/epochs{suffix}.sock" for suffix in ("", "-2", "-3")]
    assert made.process("pdp").settings["epochs_sockets"] == told
    assert {path.removeprefix("/s/") for path in told} <= {view.path for view in made.process("pdp").sees}
    (cluster,) = [
        one for one in made.process("people-sidecar").config["static_resources"]["clusters"]
        if one["name"] == "to_application"
    ]  # fmt: skip
    assert len(cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]) == 3
    assert cluster["health_checks"]
    assert "people-3-sidecar" not in {process.name for process in made.processes}


def test_only_the_sidecar_shares_the_group_of_its_service():
    for process in plan().processes:
        assert process.groups == ((process.subject,) if process.kind is Kind.SIDECAR else ())


def test_entries_bind_ids_to_what_the_supervisor_started():
    settings = plan().process("identity").settings
    assert settings is not None
    entries = {(entry["spiffe_id"], *entry["selectors"]) for entry in settings["entries"]}
    assert ("spiffe://bank.example/wallet", "supervisor:service:wallet") in entries
    assert ("spiffe://bank.example/wallet", "supervisor:sidecar:wallet") in entries
    assert ("spiffe://bank.example/rempart/people", "supervisor:system:people") in entries
    assert ("spiffe://bank.example/rempart/gateway", "supervisor:system:gateway") in entries
    assert ("spiffe://bank.example/deposit-agent", "unix:uid:1000") in entries


def test_who_may_call_is_what_was_declared():
    settings = plan().process("pdp").settings
    assert settings is not None
    services = settings["data"]["services"]
    assert services["payment"]["calls"] == ["wallet"]
    assert settings["routes"] == {
        "/wallet": "wallet",
        "/payments": "payment",
        "/login": "people",
        "/auth": "people",
        "/.well-known/oauth-authorization-server": "people",
        "/logs": "observer",
        "/opa": "observer",
        "/metrics": "observer",
    }


def test_a_long_state_path_is_refused_with_a_remedy():
    with pytest.raises(BadInput, match="longer than") as caught:
        plan(Path("/" + "x" * 80))
    assert "--state" in caught.value.remedy


def test_unsafe_switches_are_shouted_and_passed_on():
    switched = plan(unsafe_disabled=("normalize-path",))
    assert any("UNSAFE" in risk.risk for risk in switched.risks)
    settings = switched.process("pdp").settings
    assert settings is not None
    assert settings["unsafe_disabled"] == ["normalize-path"]
    assert switched.process("gateway").config != plan().process("gateway").config


@pytest.mark.parametrize(
    ("host", "url", "more"),
    [
        ("127.0.0.1", "https://localhost:1", ()),
        ("0.0.0.0", "https://localhost:1", ()),
        ("192.0.2.7", "https://192.0.2.7:1", ("192.0.2.7",)),
        ("2001:db8::1", "https://[2001:db8::1]:1", ("2001:db8::1",)),
    ],
)
def test_names_of_the_gateway(host, url, more):
    assert public_url(host, 1) == url
    assert web_names(host, GatewayNames()) == ("localhost", "127.0.0.1", "::1", *more)


NAMED = """
[gateway]
listen = "0.0.0.0:8443"
mtls_listen = "0.0.0.0:9443"
url = "https://login.bank.example"
names = ["www.bank.example", "bank.internal"]
"""


def test_several_names_have_one_issuer():
    roots = Roots(spiffe="SPIFFE", web="WEB")
    app = parse(APP + NAMED, Path("/app"))
    made = make_plan(app, Options(state=STATE), Ports({}, free=lambda host, port: True), roots)
    issuer, others = "https://login.bank.example/auth", ["https://www.bank.example", "https://bank.internal"]
    assert (made.gateway_url, made.issuer) == ("https://login.bank.example", issuer)
    assert made.web_names == (
        "localhost",
        "127.0.0.1",
        "::1",
        "login.bank.example",
        "www.bank.example",
        "bank.internal",
    )
    assert made.process("identity").settings["web_names"] == list(made.web_names)
    people, pdp = made.process("people").settings, made.process("pdp").settings
    assert (people["issuer"], pdp["issuer"], made.process("observer").settings["issuer"]) == (issuer, issuer, issuer)
    assert people["mtls_url"] == "https://login.bank.example:9443"
    assert people["other_origins"] == pdp["other_origins"] == [*others, "https://login.bank.example:9443"]
    assert made.process("wallet").env["REMPART_ISSUER"] == issuer


def test_a_port_in_the_url_is_that_of_all_names():
    app = parse(APP + NAMED.replace('.example"\nnames', '.example:8443"\nnames'), Path("/app"))
    assert app.names.others(app.names.here("0.0.0.0", 1)) == (
        "https://www.bank.example:8443",
        "https://bank.internal:8443",
    )
    plain = parse(APP + '\n[gateway]\nnames = ["bank.internal"]\n', Path("/app"))
    assert plain.names.others(plain.names.here("127.0.0.1", 8443)) == ("https://bank.internal:8443",)


def test_a_port_is_remembered_until_somebody_else_takes_it():
    remembered: dict[str, int] = {}
    taken: set[int] = set()
    assert Ports(remembered, free=lambda h, p: p not in taken).take("a", 100) == 100
    assert Ports(remembered, free=lambda h, p: p not in taken).take("b", 100) == 101
    taken.add(100)
    again = Ports(remembered, free=lambda h, p: p not in taken)
    assert (again.take("a", 100), again.take("b", 100)) == (102, 101)
    with pytest.raises(Unavailable, match="no free port"):
        Ports({}, free=lambda h, p: False).take("c", 100)


def test_the_catalog_knows_every_control_of_every_room():
    from rempart.mesh.model import Control
    from rempart.policy import decide
    from rempart.servers import people
    from rempart.wiring.catalog import CONTROLS

    rooms = {control.value for control in Control} | set(decide.CONTROLS)
    assert rooms | {people.LOGIN_THROTTLE, people.REFRESH_ROTATION} == CONTROLS
