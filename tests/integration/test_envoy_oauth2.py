"""Envoy's own `oauth2` filter, as anybody would put it before a page, with the running bank as its issuer."""

from __future__ import annotations

import json
import secrets
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.integration.conftest import Running
from tests.people_browser import Browser, sign_in
from tests.support import eventually, free_port

from rempart.attack.certificates import Authority
from rempart.mesh.binary import envoy_command

pytestmark = pytest.mark.timeout(120)
TYPES = "type.googleapis.com/envoy.extensions"


def typed(kind: str, **fields: Any) -> dict[str, Any]:
    return {"@type": f"{TYPES}.{kind}", **fields}


def configuration(bank: Running, port: int, secret: str, chain: str, key: str) -> dict[str, Any]:
    """A TLS listener whose only page is answered by Envoy itself, behind the filter."""
    issuer = bank.status["issuer"]
    to_issuer = {
        "validation_context": {
            "trusted_ca": {"filename": bank.ca},
            "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "localhost"}}],
        },
        "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"},
    }
    filter_ = {
        "token_endpoint": {"cluster": "issuer", "uri": f"{issuer}/token", "timeout": "5s"},
        "authorization_endpoint": f"{issuer}/authorize",
        "redirect_uri": f"https://localhost:{port}/callback",
        "redirect_path_matcher": {"path": {"exact": "/callback"}},
        "signout_path": {"path": {"exact": "/signout"}},
        "credentials": {
            "client_id": "it-envoy",
            "token_secret": {"name": "token"},
            "hmac_secret": {"name": "hmac"},
        },
        "auth_scopes": ["openid", "email"],
        "auth_type": "BASIC_AUTH",
        "forward_bearer_token": True,
    }
    page = {"status": 200, "body": {"inline_string": "behind the filter"}}
    manager = typed(
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="page",
        http_filters=[
            {"name": "oauth2", "typed_config": typed("filters.http.oauth2.v3.OAuth2", config=filter_)},
            {"name": "router", "typed_config": typed("filters.http.router.v3.Router")},
        ],
        route_config={
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "direct_response": page}]}
            ]
        },
    )
    server = {"tls_certificates": [{"certificate_chain": {"filename": chain}, "private_key": {"filename": key}}]}
    context = typed("transport_sockets.tls.v3.DownstreamTlsContext", common_tls_context=server)
    upstream = typed("transport_sockets.tls.v3.UpstreamTlsContext", sni="localhost", common_tls_context=to_issuer)
    gateway = {"address": "127.0.0.1", "port_value": int(bank.url.rpartition(":")[2])}
    return {
        "static_resources": {
            "secrets": [
                {"name": "token", "generic_secret": {"secret": {"inline_string": secret}}},
                {"name": "hmac", "generic_secret": {"secret": {"inline_string": secrets.token_hex(32)}}},
            ],
            "listeners": [
                {
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                    "filter_chains": [
                        {
                            "filters": [{"name": "http", "typed_config": manager}],
                            "transport_socket": {"name": "tls", "typed_config": context},
                        }
                    ],
                }
            ],
            "clusters": [
                {
                    "name": "issuer",
                    "connect_timeout": "2s",
                    "load_assignment": {
                        "cluster_name": "issuer",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": gateway}}}]}],
                    },
                    "transport_socket": {"name": "tls", "typed_config": upstream},
                }
            ],
        }
    }


@pytest.fixture
def guarded(bank: Running, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The page's address and the authority of its certificate."""
    port, secret = free_port(), secrets.token_urlsafe(32)
    page = f"https://localhost:{port}"
    options = ("--redirect-uri", f"{page}/callback", "--grant", "authorization_code", "--grant", "refresh_token")
    scopes = ("--scope", "openid", "--scope", "email")
    done = bank.run("client", "add", "it-envoy", "--secret-stdin", *options, *scopes, "--json", input=secret)
    assert done.returncode == 0, done.stderr
    identity = Authority.create("page").issue(dns=["localhost"])
    chain, key, config = tmp_path / "chain.pem", tmp_path / "key.pem", tmp_path / "envoy.json"
    chain.write_bytes(identity.chain)
    key.write_bytes(identity.key)
    config.write_text(json.dumps(configuration(bank, port, secret, str(chain), str(key))))
    with (tmp_path / "envoy.log").open("w") as log:
        envoy = subprocess.Popen(envoy_command(config, concurrency=1), stdout=log, stderr=log)
        try:
            eventually(lambda: socket.create_connection(("127.0.0.1", port), 1).close() is None, within=15)
            yield page, str(chain)
        finally:
            envoy.terminate()
            envoy.wait(10)
    assert bank.run("client", "delete", "it-envoy").returncode == 0


def test_a_page_behind_envoys_filter_is_seen_after_sign_in_alone(bank: Running, guarded: tuple[str, str]) -> None:
    page, chain = guarded
    person = bank.account("user")
    context = ssl.create_default_context(cafile=bank.ca)
    context.load_verify_locations(chain)
    with (
        httpx.Client(base_url=bank.url, verify=context, timeout=20) as at_issuer,
        httpx.Client(verify=context, timeout=20) as at_page,
    ):
        first = at_page.get(f"{page}/private")
        assert first.status_code == 302
        assert first.headers["location"].startswith(bank.status["issuer"] + "/authorize?")
        assert "code_challenge=" in first.headers["location"]
        back = sign_in(Browser(at_issuer), first.headers["location"], person["email"], person["password"])
        assert back.startswith(f"{page}/callback?")
        done = at_page.get(back, follow_redirects=True)
        assert (done.status_code, done.text) == (200, "behind the filter"), done.text
        assert str(done.url) == f"{page}/private"
        assert at_page.get(back.replace("state=", "state=x")).status_code in (401, 302)
        assert httpx.get(back, verify=context).status_code == 401  # the answer in another browser: no CSRF nonce there
        at_page.get(f"{page}/signout")
        assert at_page.get(f"{page}/private").status_code == 302
