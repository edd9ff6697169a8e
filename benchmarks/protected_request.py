"""A protected request against the same Envoy with none of it.

Protected: the gateway's own configuration, nothing switched off. TLS 1.3, a token (RS256, verified by jwt_authn, which
keeps verified ones), the real PDP with the bank's policy, each decision durable before its answer. Bare: a listener of
the same Envoy without TLS and without a filter. Both send on, in the clear, to the same trivial upstream: an Envoy
that answers 200 by itself. Load comes from `wrk` over connections that stay open, in turns, because a machine
is rarely as fast in one second as in the next; the ratio is the median of the turns. Everything shares the same cores.

With 32 connections, as the other comparisons have, gateway and PDP wait for each other: a fifth of the two cores is
idle while all of them wait for the disk or for one process. With 128 there is work meanwhile. Both are shown.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import socket
import statistics
import subprocess  # nosec B404 - wrk and Envoy, with arguments of our own
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
from tests.integration import pdp_process
from tests.support import eventually, free_port, short_directory
from tests.support_mesh import World, envoy, tls_context

from benchmarks.running import given_back
from rempart.mesh.binary import envoy_command
from rempart.mesh.model import Address, Limits, Upstream
from rempart.mesh.shape import address

CONNECTIONS = (32, 128)
TURNS = 5
SECONDS = 3
CONCURRENCY = max(1, len(os.sched_getaffinity(0)) // 2)  # as `rempart up` does


def run() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {
            "what": f"protected request: TLS, token, Rego, durable record; {connections} connections",
            "against": "the same Envoy with none of it",
            "target": "≥ 0.25×",
        }
        for connections in CONNECTIONS
    ]
    wrk = shutil.which("wrk")
    if wrk is None:
        return [{**row, "skipped": "wrk is not installed (apt install wrk)"} for row in rows]
    with ExitStack() as stack:
        protected, bare, headers = _start(stack)
        return [
            {**row, **_compared(wrk, connections, protected, bare, headers)}
            for row, connections in zip(rows, CONNECTIONS, strict=True)
        ]


def _compared(wrk: str, connections: int, protected: str, bare: str, headers: dict[str, str]) -> dict[str, Any]:
    turns = []
    for _ in range(TURNS):
        turns.append((_rate(wrk, connections, protected, headers), _rate(wrk, connections, bare, {})))
    ratio = statistics.median(ours / peer for ours, peer in turns)
    ours, peer = (statistics.median(values) for values in zip(*turns, strict=True))
    return {"ours": f"{ours:,.0f} req/s", "peer": f"{peer:,.0f} req/s", "ratio": ratio}


def _start(stack: ExitStack) -> tuple[str, str, dict[str, str]]:
    """URLs of the protected and of the bare listener, and the headers of who is let in."""
    directory = stack.enter_context(short_directory("rb"))
    world = World(directory)
    stack.callback(world.close)
    bank = Path(__file__).parent.parent / "examples" / "bank" / "policy"
    decides = pdp_process.PdpProcess(directory, policy_dir=bank, requests_per_minute=1_000_000_000)
    stack.callback(decides.close)
    if not decides.start():
        raise RuntimeError(decides.errors())
    stack.enter_context(given_back(directory / "journal"))
    bare = free_port()
    settings = dataclasses.replace(
        world.gateway(limits=Limits(ip_requests_per_s=10_000_000, ip_burst=10_000_000)),
        pdp_socket=str(decides.path("pep:gateway")),
        tokens=dataclasses.replace(world.tokens, audience=pdp_process.TRUST_DOMAIN),
        upstreams=(Upstream("wallet", Address("127.0.0.1", world.wallet_port), http2=False),),
    )
    stack.enter_context(_running(directory, "upstream", _plain(world.wallet_port, None), world.wallet_port))
    stack.enter_context(_running(directory, "bare", _plain(bare, world.wallet_port), bare))
    stack.enter_context(envoy(settings, directory, concurrency=CONCURRENCY))
    token = world.issuer.token(aud=pdp_process.TRUST_DOMAIN)
    headers = {"authorization": f"Bearer {token}"}
    path = "/wallet?user_id=u1"
    url = f"https://localhost:{world.gateway_port}{path}"
    with httpx.Client(verify=tls_context(world.web.bundle)) as client:
        eventually(lambda: client.get(url, headers=headers).status_code == 200)
    return url, f"http://127.0.0.1:{bare}{path}", headers


def _plain(port: int, upstream: int | None) -> dict[str, Any]:
    """The smallest configuration there is: a listener that sends on, or one that answers 200 itself."""
    packages = "type.googleapis.com/envoy.extensions.filters"
    action: dict[str, Any] = (
        {"direct_response": {"status": 200, "body": {"inline_string": "hello"}}}
        if upstream is None
        else {"route": {"cluster": "upstream"}}
    )
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{packages}.http.router.v3.Router"}}
    manager = {
        "@type": f"{packages}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bare",
        "http_filters": [router],
        "route_config": {
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, **action}]}]
        },
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    clusters = []
    if upstream is not None:
        endpoint = {"address": address(Address("127.0.0.1", upstream))}
        assignment = {"cluster_name": "upstream", "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}]}
        clusters.append({"name": "upstream", "type": "STATIC", "load_assignment": assignment})
    listener = {"address": address(Address("127.0.0.1", port)), "filter_chains": [{"filters": filters}]}
    return {"static_resources": {"listeners": [listener], "clusters": clusters}}


@contextmanager
def _running(directory: Path, name: str, config: dict[str, Any], port: int) -> Iterator[None]:
    path = directory / f"{name}.json"
    path.write_text(json.dumps(config))
    with (directory / f"{name}.log").open("wb") as log:
        command = envoy_command(path, concurrency=CONCURRENCY)
        process = subprocess.Popen(command, stdout=log, stderr=log)  # nosec B603 - our own Envoy
        try:
            eventually(lambda: socket.create_connection(("127.0.0.1", port), timeout=1).close() is None, within=15)
            yield
        finally:
            process.terminate()
            process.wait(10)


def _rate(wrk: str, connections: int, url: str, headers: dict[str, str]) -> float:
    """Requests a second; an answer other than 2xx, or a broken connection, spoils the measurement."""
    command = [wrk, "--threads", "1", "--connections", str(connections), "--duration", f"{SECONDS}s"]
    for name, value in headers.items():
        command += ["--header", f"{name}: {value}"]
    said = subprocess.run([*command, url], capture_output=True, text=True, check=True, timeout=60).stdout  # nosec B603
    if bad := re.search(r"(Non-2xx|Socket errors).*", said):
        raise RuntimeError(f"{url}: {bad.group(0)}")
    found = re.search(r"Requests/sec:\s+([\d.]+)", said)
    if found is None:
        raise RuntimeError(f"wrk said: {said}")
    return float(found.group(1))
