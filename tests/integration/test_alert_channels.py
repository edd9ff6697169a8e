"""Notices at real receivers: a mail server, Prometheus' Alertmanager, and HTTP servers that check what they get."""

import asyncio
import base64
import contextlib
import http.server
import json
import os
import shutil
import ssl
import subprocess
import threading

import httpx
import pytest
from aiosmtpd.controller import Controller
from tests.integration.conftest import TINY, rempart, running, write_tiny
from tests.support import eventually, free_port, short_directory

from rempart.backends.channel_email import EmailChannel
from rempart.backends.channel_http import AlertmanagerChannel, SlackChannel, WebhookChannel
from rempart.backends.sink_tls import Trust
from rempart.backends.smtp_mailer import Relay, SmtpMailer
from rempart.crypto.webhooks import WebhookSigner
from rempart.detection.alerting.incidents import Incidents, Pace
from rempart.detection.model import Alert
from rempart.kernel.clock import SystemClock
from rempart.kernel.errors import Unavailable
from rempart.kernel.event import Severity

pytestmark = pytest.mark.anyio
ALERTMANAGER = shutil.which("prometheus-alertmanager")


def notices(*, quiet=3600.0):
    """A firing notice and the resolved one that follows it."""
    now, kept, pace = SystemClock().now(), Incidents(), Pace(gather=0.0, again=0.0, quiet=quiet)
    alert = Alert(
        id="alr_1",
        rule="password-spray",
        title="Password spray <& co>",
        severity=Severity.HIGH,
        first=now - 60,
        last=now,
        reason="one network tried 40 accounts",
        evidence=("evt_1", "evt_2"),
        attack=("T1110.003",),
        principals=("network:203.0.113.0/24",),
    )
    kept.take(alert, now, pace)
    (firing,) = kept.tick(now, pace)
    kept.resolve("alr_1", "uid:0", "", now + 1, pace)
    (resolved,) = kept.tick(now + 2, pace)
    return firing, resolved


class Mailbox:
    def __init__(self):
        self.messages = []

    async def handle_DATA(self, server, session, envelope):
        self.messages.append((envelope.rcpt_tos, envelope.content.decode()))
        return "250 OK"


async def test_mails_arrive_at_every_recipient():
    box = Mailbox()
    controller = Controller(box, hostname="127.0.0.1", port=free_port())
    controller.start()
    try:
        relay = Relay("127.0.0.1", controller.port, "none", "rempart@bank.example")
        channel = EmailChannel(SmtpMailer(relay), ["ops@bank.example", "night@bank.example"])
        await channel.send(notices()[0])
    finally:
        controller.stop()
    assert [to for to, _ in box.messages] == [["ops@bank.example"], ["night@bank.example"]]
    text = box.messages[0][1]
    assert "Subject: [high] Password spray" in text
    assert "rempart audit show evt_2" in text


@contextlib.contextmanager
def receiver(status=200):
    """An HTTP server that keeps what is posted to it."""
    got = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            got.append((self.path, dict(self.headers), self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format, *args):
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", got
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def test_slack_gets_text_that_it_cannot_take_for_markup():
    with receiver() as (url, got):
        channel = SlackChannel(f"{url}/services/T0/B0/SECRET", Trust())
        await channel.send(notices()[0])
        await channel.close()
    ((path, _, body),) = got
    document = json.loads(body)
    assert path == "/services/T0/B0/SECRET"
    assert "&lt;&amp; co&gt;" in document["text"]
    assert "<" not in body.decode()
    assert "one network tried 40 accounts" in document["blocks"][1]["text"]["text"]


async def test_the_slack_url_is_in_no_error():
    for status in (400, 404, 500):
        with receiver(status) as (url, _):
            channel = SlackChannel(f"{url}/services/SECRET", Trust())
            with pytest.raises(Unavailable) as caught:
                await channel.send(notices()[0])
            await channel.close()
        assert "SECRET" not in str(caught.value)
    channel = SlackChannel("http://127.0.0.1:9/services/SECRET", Trust())
    with pytest.raises(Unavailable) as caught:
        await channel.send(notices()[0])
    await channel.close()
    assert "SECRET" not in str(caught.value)
    assert "127.0.0.1" not in str(caught.value)


async def test_a_webhook_is_signed_and_keeps_its_id():
    secret = "whsec_" + base64.b64encode(b"k" * 32).decode()
    firing, _ = notices()
    with receiver() as (url, got):
        channel = WebhookChannel(url + "/hook", WebhookSigner(secret), Trust(), SystemClock())
        await channel.send(firing)
        await channel.send(firing)
        await channel.close()
    first, second = ({name.lower(): value for name, value in headers.items()} for _, headers, _ in got)
    assert first["webhook-id"] == second["webhook-id"] == firing.id
    body = got[0][2]
    again = WebhookSigner(secret).headers(firing.id, int(first["webhook-timestamp"]), body)
    assert again["webhook-signature"] == first["webhook-signature"]
    document = json.loads(body)
    assert document["type"] == "rempart.alert.firing"
    assert document["data"]["incidents"][0]["evidence"] == ["evt_1", "evt_2"]


@pytest.mark.skipif(not ALERTMANAGER, reason="Alertmanager isn't installed")
async def test_alertmanager_sees_one_alert_that_fires_and_is_resolved(tmp_path):
    port = free_port()
    (tmp_path / "a.yml").write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
    process = subprocess.Popen(
        [
            ALERTMANAGER,
            f"--config.file={tmp_path / 'a.yml'}",
            f"--storage.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
        ],
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"

    def alerts():
        return httpx.get(url + "/api/v2/alerts").json()

    def up():
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(url + "/-/ready").is_success
        return False

    try:
        await asyncio.to_thread(eventually, up)
        firing, resolved = notices()
        channel = AlertmanagerChannel(url, Trust(), quiet=3600.0)
        await channel.send(firing)
        await channel.send(firing)
        (alert,) = alerts()
        assert alert["labels"]["alertname"] == "password-spray"
        assert alert["annotations"]["evidence"] == "evt_1,evt_2"
        assert alert["status"]["state"] == "active"
        await asyncio.to_thread(eventually, lambda: SystemClock().now() > resolved.at)
        await channel.send(resolved)
        await asyncio.to_thread(eventually, lambda: alerts() == [])
        await channel.close()
    finally:
        process.terminate()
        process.wait(10)


def test_what_a_receiver_needs_to_verify_is_in_the_documentation():
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text()
    for word in ("webhook-signature", "[[alerting.channel]]", "rempart alert ack", "alertmanager"):
        assert word in page


def test_the_whole_way_from_an_attack_to_a_message_and_what_people_do_then():
    """A real `rempart up`: wrong passwords, a signed message, acknowledged by command, all of it in the record."""
    secret = "whsec_" + base64.b64encode(b"k" * 32).decode()
    with receiver() as (url, got), short_directory("al") as directory:
        settings = TINY + (
            "\n[alerting]\ngather = 1\n"
            f'[[alerting.channel]]\nname = "hook"\ntype = "webhook"\nurl = "{url}/h"\nsecret = "${{HOOK}}"\n'
            '[[alerting.channel]]\nname = "cut"\ntype = "slack"\nurl = "${SLACK}"\n'
        )
        env = {"HOOK": secret, "SLACK": "http://127.0.0.1:9/hidden"}
        with running(write_tiny(directory / "app", settings), env=env) as system:

            def command(*arguments, code=0):
                done = rempart(*arguments, "--json", state=system.state)
                assert done.returncode == code, done.stderr
                return json.loads(done.stdout)

            assert command("alert", "test", "hook")["taken"]
            assert "hidden" not in command("alert", "test", "cut", code=1)["failing"]
            context = ssl.create_default_context(cafile=system.ca)
            with httpx.Client(verify=context) as client:
                for number in range(12):
                    client.post(
                        system.url + "/login", json={"email": "a@b.example", "password": f"wrong {number} word"}
                    )

            def told():
                return [json.loads(body) for _, _, body in got if b'"rule":"brute_force"' in body]

            (document, *_) = eventually(told, within=30)
            assert document["type"] == "rempart.alert.firing"
            assert "a@b.example" not in json.dumps(document)
            incident = document["data"]["incidents"][0]["id"]
            listed = {one["rule"]: one for one in command("alert", "list", code=1)["incidents"]}
            assert {"brute_force", "alerting.channel"} <= set(listed)
            assert command("alert", "ack", incident, "--note", "on it")["by"] == f"uid:{os.getuid()}"
            silence = command("alert", "silence", "--rule", "brute_force", "--for", "1h", "--why", "a drill")
            assert command("alert", "silences")["silences"][0]["id"] == silence["id"]
            command("alert", "unsilence", silence["id"])
            assert command("alert", "resolve", incident)["standing"] == "resolved"
            assert rempart("alert", "show", "alr_none", state=system.state).returncode == 1

            def recorded():
                found = command("audit", "search", "--type", "alert.changed")
                return len(found["events"]) == 4

            assert eventually(recorded, within=10)
            logs = b"".join(path.read_bytes() for path in (system.state / "logs").glob("*"))
            assert b"hidden" not in logs
            assert secret.encode() not in logs
