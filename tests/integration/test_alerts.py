"""Real Prometheus and Alertmanager watch the real bank: what an attacker does becomes an alert at a webhook."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from tests.integration.conftest import BANK, Running, running
from tests.support import eventually, free_port, short_directory

from rempart.kernel.errors import RempartError
from rempart.sdk.spiffe import fetch_x509_svids

DEPLOY = Path(__file__).parents[2] / "deploy" / "prometheus"
PROMETHEUS, ALERTMANAGER = shutil.which("prometheus"), shutil.which("prometheus-alertmanager")
WANTED = {"RempartForgedTokens", "RempartSvidsDenied", "RempartPolicyDenyBurst", "RempartSequencerBehind"}

pytestmark = [
    pytest.mark.skipif(not PROMETHEUS or not ALERTMANAGER, reason="Prometheus and Alertmanager aren't installed"),
    pytest.mark.timeout(180),
]


class Webhook:
    """Keeps the alerts that Alertmanager posts."""

    def __init__(self) -> None:
        self.alerts: list[dict[str, Any]] = []
        alerts = self.alerts

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                alerts.extend(json.loads(self.rfile.read(int(self.headers["content-length"])))["alerts"])
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/alerts"

    def firing(self) -> set[str]:
        return {alert["labels"]["alertname"] for alert in self.alerts if alert["status"] == "firing"}


@contextlib.contextmanager
def webhook() -> Iterator[Webhook]:
    hook = Webhook()
    thread = threading.Thread(target=hook.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hook
    finally:
        hook.server.shutdown()
        hook.server.server_close()
        thread.join()


@contextlib.contextmanager
def process(log: Path, *command: str) -> Iterator[None]:
    with log.open("wb") as output:
        started = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            yield
        finally:
            started.terminate()
            try:
                started.wait(10)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()


@contextlib.contextmanager
def watching(bank: Running, hook: Webhook) -> Iterator[httpx.Client]:
    """The files of deploy/prometheus, with this test's addresses and shorter intervals."""
    with short_directory("rw") as directory:
        shutil.copytree(DEPLOY, directory, dirs_exist_ok=True)
        shutil.copy(bank.ca, directory / "ca.pem")
        (directory / "audit.token").write_text(bank.token("audit"))
        alert_port, port = free_port(), free_port()
        settings = yaml.safe_load((directory / "prometheus.yml").read_text())
        settings["global"] = {"scrape_interval": "4s", "scrape_timeout": "4s", "evaluation_interval": "1s"}
        settings["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{alert_port}"]
        settings["scrape_configs"][0]["static_configs"][0]["targets"] = [bank.url.removeprefix("https://")]
        (directory / "prometheus.yml").write_text(yaml.safe_dump(settings))
        alerting = (directory / "alertmanager.yml").read_text().replace("http://127.0.0.1:9099/alerts", hook.url)
        (directory / "alertmanager.yml").write_text(alerting)
        manager = (
            str(ALERTMANAGER),
            f"--config.file={directory}/alertmanager.yml",
            f"--storage.path={directory}/alerts",
            f"--web.listen-address=127.0.0.1:{alert_port}",
            "--cluster.listen-address=",
        )
        prometheus = (
            str(PROMETHEUS),
            f"--config.file={directory}/prometheus.yml",
            f"--storage.tsdb.path={directory}/data",
            f"--web.listen-address=127.0.0.1:{port}",
        )
        with (
            process(directory / "alertmanager.log", *manager),
            process(directory / "prometheus.log", *prometheus),
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=5, trust_env=False) as client,
        ):
            yield client


def query(client: httpx.Client, expression: str) -> list[Any]:
    try:
        answer = client.get("/api/v1/query", params={"query": expression})
    except httpx.TransportError as error:
        raise AssertionError("Prometheus doesn't answer yet") from error
    assert answer.status_code == 200, answer.text
    result: list[Any] = answer.json()["data"]["result"]
    return result


@pytest.fixture(scope="module")
def bank() -> Iterator[Running]:
    """One of its own: its sequencer is stopped for a while. With a channel for its alerts, who listens and no more,
    and with models, which have too little to learn from."""
    with channel() as url, short_directory("rb") as directory:
        shutil.copytree(BANK, directory / "bank")
        with (directory / "bank" / "rempart.toml").open("a") as file:
            file.write(f'\n[[alerting.channel]]\nname = "night"\ntype = "alertmanager"\nurl = "{url}"\n')
            file.write("\n[detection]\nmodels = true\n")
        directory.chmod(0o755)
        with running(directory / "bank") as system:
            yield system


@contextlib.contextmanager
def channel() -> Iterator[str]:
    """Takes whatever is posted."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def test_each_alert_reaches_the_webhook(bank: Running) -> None:
    with webhook() as hook, watching(bank, hook) as prometheus:
        eventually(lambda: query(prometheus, 'up{job="rempart"} == 1'), within=20)
        eventually(lambda: query(prometheus, "count_over_time(rempart_svids_refused_total[1m]) >= 2"), within=20)
        assert query(prometheus, "rempart_component_up == 0") == []
        assert hook.firing() == set()

        attack(bank)
        with without_sequencer(bank) as keep_stopped:
            eventually(lambda: keep_stopped() or missing(hook) == set(), within=70)
        assert missing(hook) == set()
        described = [alert for alert in hook.alerts if alert["labels"]["alertname"] in WANTED]
        assert all(alert["annotations"]["summary"] and alert["annotations"]["runbook_url"] for alert in described)
        forged = next(alert for alert in described if alert["labels"]["alertname"] == "RempartForgedTokens")
        assert forged["labels"] | {"pep": "gateway", "severity": "high"} == forged["labels"]


def test_every_query_of_the_dashboards_has_an_answer(bank: Running) -> None:
    """All of them give series of the running bank, after something of each kind was done."""
    with webhook() as hook, watching(bank, hook) as prometheus:
        attack(bank)
        eventually(lambda: query(prometheus, 'count_over_time(up{job="rempart"}[1m]) >= 3'), within=40)
        for path in sorted((DEPLOY.parent / "grafana").glob("*.json")):
            for panel in json.loads(path.read_text())["panels"]:
                for target in panel["targets"]:
                    expression = target["expr"].replace("$__rate_interval", "1m")
                    found = query(prometheus, expression)
                    assert found, f"{path.name}, {panel['title']}: {expression}"
                    labels = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
                    assert all(labels <= set(series["metric"]) for series in found), f"{panel['title']}: {labels}"


def missing(hook: Webhook) -> set[str]:
    return WANTED - hook.firing()


@contextlib.contextmanager
def without_sequencer(bank: Running) -> Iterator[Callable[[], None]]:
    """Stops the sequencer, and each that the supervisor puts in its place, whenever the given function is called."""
    stopped: set[int] = set()

    def keep_stopped() -> None:
        pid = bank.pid("sequencer")
        if pid is not None and pid not in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
            stopped.add(pid)

    keep_stopped()
    try:
        yield keep_stopped
    finally:
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def attack(bank: Running) -> None:
    """Forged tokens, a burst of denials, and a process without an entry that asks for an identity."""
    header, payload, signature = bank.token("user").split(".")
    forged = f"{header}.{payload}.{signature[:-8]}AAAAAAAA"
    good = bank.token("user")
    with httpx.Client(base_url=bank.url, verify=ssl.create_default_context(cafile=bank.ca), timeout=10) as client:
        for _ in range(10):
            assert client.get("/wallet", headers={"authorization": f"Bearer {forged}"}).status_code == 401
        for _ in range(40):
            assert client.get("/users", headers={"authorization": f"Bearer {good}"}).status_code == 403
    for _ in range(3):
        with pytest.raises(RempartError):
            fetch_x509_svids(bank.status["workload_api"])


def test_an_expired_or_foreign_token_reads_no_metrics(bank: Running) -> None:
    with httpx.Client(base_url=bank.url, verify=ssl.create_default_context(cafile=bank.ca), timeout=10) as client:
        for role in ("user", "admin", "finance", "devops"):
            answer = client.get("/metrics", headers={"authorization": f"Bearer {bank.token(role)}"})
            assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json")
        assert client.get("/metrics").status_code == 401 or client.get("/metrics").status_code == 403


def test_the_page_of_the_running_system_is_one_that_prometheus_reads(bank: Running) -> None:
    with httpx.Client(base_url=bank.url, verify=ssl.create_default_context(cafile=bank.ca), timeout=20) as client:
        page = client.get("/metrics", headers={"authorization": f"Bearer {bank.token('audit')}"}).text
    checked = subprocess.run(["promtool", "check", "metrics"], input=page, text=True, capture_output=True, check=False)
    assert checked.returncode in (0, 3), checked.stderr[:2000]  # 3: remarks on names, of which Envoy's get many
    remarks = [
        line for line in checked.stderr.splitlines() if line.startswith("rempart_") and "no help text" not in line
    ]
    assert remarks == []
    down = [line for line in page.splitlines() if line.startswith("rempart_component_up") and line.endswith(" 0")]
    assert down == []
