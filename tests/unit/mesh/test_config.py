"""The shape of what is generated, and the real Envoy's opinion of it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.mesh.settings import CALLERS, TOKENS, WALLET, gateway, sidecar

from rempart.kernel.errors import BadInput
from rempart.mesh.config import envoy_config
from rempart.mesh.model import Address, Control, Egress, GatewaySettings, Ingress, Limits, Route, Settings, Upstream
from rempart.mesh.validate import validate

FOREIGN = "spiffe://partner.example/front"
GRPC = Ingress(Address.parse("127.0.0.1:1"), Address.parse("127.0.0.1:2"), CALLERS, "/p", TOKENS, http2=True)


def listener(config: dict[str, Any], name: str) -> dict[str, Any]:
    found = [one for one in config["static_resources"]["listeners"] if one["name"] == name]
    assert len(found) == 1
    return dict(found[0])


def manager(config: dict[str, Any], name: str) -> dict[str, Any]:
    return dict(listener(config, name)["filter_chains"][0]["filters"][0]["typed_config"])


def filter_names(config: dict[str, Any], name: str) -> list[str]:
    return [one["name"].removeprefix("envoy.filters.http.") for one in manager(config, name)["http_filters"]]


def routes(config: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return list(manager(config, name)["route_config"]["virtual_hosts"][0]["routes"])


def every(value: Any, key: str) -> Iterator[Any]:
    """All values under `key`, however deep."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == key:
                yield inner
            yield from every(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from every(inner, key)


def test_filters_stand_in_the_order_that_the_design_promises() -> None:
    assert filter_names(envoy_config(gateway()), "gateway") == [
        "header_mutation", "local_ratelimit", "jwt_authn", "ext_authz", "buffer", "router",
    ]  # fmt: skip
    assert filter_names(envoy_config(sidecar()), "ingress") == [
        "header_mutation", "jwt_authn", "ext_authz", "rbac", "buffer", "router",
    ]  # fmt: skip


def test_every_route_asks_the_pdp_unless_envoy_answers_itself() -> None:
    for config, name in ((envoy_config(gateway()), "gateway"), (envoy_config(sidecar()), "ingress")):
        for route in routes(config, name):
            skipped = "envoy.filters.http.ext_authz" in route.get("typed_per_filter_config", {})
            assert skipped == ("direct_response" in route)
            assert ("route" in route) != ("direct_response" in route)
        assert list(every(config, "failure_mode_allow")) == [False]


def test_the_longest_prefix_is_tried_first_and_the_last_word_is_404() -> None:
    found = [route["match"].get("path_separated_prefix") for route in routes(envoy_config(gateway()), "gateway")]
    prefixes = list(dict.fromkeys(prefix for prefix in found if prefix))
    assert prefixes == ["/wallet/admin", "/wallet", "/users"]
    last = routes(envoy_config(gateway()), "gateway")[-1]
    assert (last["match"], last["direct_response"]["status"]) == ({"prefix": "/"}, 404)


def test_every_way_to_another_service_is_mtls_to_one_exact_identity() -> None:
    for made in (gateway(), sidecar()):
        for cluster in envoy_config(made)["static_resources"]["clusters"]:
            tcp = list(every(cluster, "socket_address"))
            if not tcp:
                continue
            names = list(every(cluster["transport_socket"], "match_typed_subject_alt_names"))
            assert len(names) == 1
            assert len(names[0]) == 1
            assert names[0][0]["san_type"] == "URI"
            assert names[0][0]["matcher"]["exact"].startswith("spiffe://bank.example/")


def test_ingress_wants_a_certificate_of_a_declared_caller_and_never_resumes() -> None:
    context = listener(envoy_config(sidecar()), "ingress")["filter_chains"][0]["transport_socket"]["typed_config"]
    assert context["require_client_certificate"] is True
    assert context["disable_stateless_session_resumption"] is True
    assert context["disable_stateful_session_resumption"] is True
    assert context["common_tls_context"]["tls_params"]["tls_minimum_protocol_version"] == "TLSv1_2"
    exact = [one["matcher"]["exact"] for one in next(every(context, "match_typed_subject_alt_names"))]
    assert tuple(exact) == CALLERS
    assert next(every(context, "validation_context_sds_secret_config"))["name"] == "spiffe://bank.example"


def test_only_the_trust_domains_of_those_who_may_be_there_are_trusted() -> None:
    """A partner's CA could sign a leaf with a partner's and a local URI name, and Envoy takes the bundle of the first:
    who calls a local service must not know the partner's bundle."""
    foreign = Ingress(Address.parse("127.0.0.1:1"), Address.parse("127.0.0.1:2"), (*CALLERS, FOREIGN), "/p", TOKENS)
    abroad = Egress(Address.parse("unix:/a.sock"), Upstream("abroad", Address.parse("10.0.0.1:1"), FOREIGN))
    home = Egress(Address.parse("unix:/b.sock"), WALLET)
    config = envoy_config(sidecar(ingress=foreign, egress=(abroad, home)))
    ingress = listener(config, "ingress")["filter_chains"][0]["transport_socket"]
    assert next(every(ingress, "validation_context_sds_secret_config"))["name"] == "ALL"
    trusted = {
        one["name"]: found["name"]
        for one in config["static_resources"]["clusters"]
        for found in every(one, "validation_context_sds_secret_config")
    }
    home_domain = "spiffe://bank.example"
    assert trusted == {"to_abroad": "spiffe://partner.example", "to_wallet": home_domain, "jwks": home_domain}


def test_a_client_workload_has_no_ingress_and_asks_no_pdp() -> None:
    config = envoy_config(sidecar(ingress=None))
    assert [one["name"] for one in config["static_resources"]["listeners"]] == ["egress_users", "metrics"]
    assert "pdp" not in {one["name"] for one in config["static_resources"]["clusters"]}


def test_no_key_and_no_certificate_is_ever_written_into_the_configuration() -> None:
    for made in (gateway(), sidecar()):
        text = json.dumps(envoy_config(made))
        assert "PRIVATE" not in text
        assert "inline_bytes" not in text


def test_sockets_have_the_modes_that_keep_others_out() -> None:
    config = envoy_config(sidecar())
    assert config["admin"]["address"]["pipe"]["mode"] == 0o600
    for one in config["static_resources"]["listeners"]:
        if "pipe" in one["address"]:
            assert one["address"]["pipe"]["mode"] == 0o660
        assert one["enable_reuse_port"] is False


def _with(control: Control) -> tuple[str, str]:
    plain = json.dumps([envoy_config(gateway()), envoy_config(sidecar())], sort_keys=True)
    off = frozenset([control])
    changed = [envoy_config(gateway(unsafe_disabled=off)), envoy_config(sidecar(unsafe_disabled=off))]
    return plain, json.dumps(changed, sort_keys=True)


@pytest.mark.parametrize("control", list(Control))
def test_every_control_changes_something_when_it_is_off(control: Control) -> None:
    plain, changed = _with(control)
    assert plain != changed


def test_the_same_settings_give_the_same_bytes() -> None:
    assert json.dumps(envoy_config(gateway())) == json.dumps(envoy_config(gateway()))


@pytest.mark.parametrize(
    "made",
    [
        gateway(),
        sidecar(),
        sidecar(ingress=None),
        gateway(unsafe_disabled=frozenset(Control)),
        sidecar(unsafe_disabled=frozenset(Control)),
        gateway(listen=Address.parse("[::1]:8443"), upstreams=(dataclasses.replace(WALLET, http2=True),),
                routes=(Route("/", "wallet"),)),
        sidecar(ingress=GRPC),
    ],
)  # fmt: skip
def test_the_real_envoy_accepts_it(made: Settings) -> None:
    validate(envoy_config(made))


def test_what_envoy_refuses_is_told_with_its_reason() -> None:
    config = envoy_config(gateway())
    config["static_resources"]["listeners"][0]["no_such_field"] = 1
    with pytest.raises(BadInput) as error:
        validate(config)
    assert error.value.code == "envoy_config_refused"
    assert "no_such_field" in error.value.reason


names = st.from_regex(r"[a-z][a-z0-9-]{0,10}[a-z0-9]", fullmatch=True)
paths = st.from_regex(r"(/[A-Za-z0-9_~$!'()*+,=:@&-]{1,12}){1,3}", fullmatch=True)
ports = st.integers(1, 65535)


@st.composite
def gateways(draw: st.DrawFn) -> GatewaySettings:
    protocols = st.sampled_from([None, True])
    upstreams = tuple(
        Upstream(name, Address("127.0.0.1", draw(ports)), f"spiffe://bank.example/{name}", draw(protocols))
        for name in draw(st.lists(names, min_size=1, max_size=4, unique=True))
    )
    prefixes = draw(st.lists(paths, max_size=6, unique=True))
    return gateway(
        upstreams=upstreams,
        routes=tuple(Route(prefix, draw(st.sampled_from(upstreams)).name) for prefix in prefixes),
        limits=Limits(max_headers_kib=draw(st.integers(1, 8192)), request_s=draw(st.floats(0.001, 1e5))),
        unsafe_disabled=draw(st.frozensets(st.sampled_from(Control))),
    )


@settings(max_examples=12, deadline=None)
@given(gateways())
def test_whatever_settings_hold_envoy_accepts(made: GatewaySettings) -> None:
    config = envoy_config(made)
    forwarded = {route["route"]["cluster"] for route in routes(config, "gateway") if "route" in route}
    assert forwarded <= {one["name"] for one in config["static_resources"]["clusters"]}
    validate(config)


@settings(max_examples=6, deadline=None)
@given(st.lists(names, max_size=4, unique=True), st.frozensets(st.sampled_from(Control)), st.booleans())
def test_whatever_a_sidecar_may_call_envoy_accepts(targets: list[str], off: frozenset[Control], by_port: bool) -> None:
    ways = tuple(
        Egress(
            Address("127.0.0.1", 20000 + index) if by_port else Address(path=f"/run/e/{name}.sock"),
            Upstream(name, Address("127.0.0.1", 15001 + index), f"spiffe://bank.example/{name}"),
        )
        for index, name in enumerate(targets)
    )
    validate(envoy_config(sidecar(egress=ways, unsafe_disabled=off)))
