"""Notices to what listens on HTTP: Slack's incoming webhooks, any receiver that checks a signature, Alertmanager."""

from __future__ import annotations

import msgspec

from rempart.crypto.webhooks import WebhookSigner
from rempart.detection.alerting.model import Incident, Notice, Standing
from rempart.kernel.clock import Clock, rfc3339
from rempart.kernel.errors import Unavailable

from .sink_http import SinkHttp
from .sink_tls import Trust

_JSON = {"content-type": "application/json"}
_SLACK_TEXT = 3000  # characters of one section block
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


class SlackChannel:
    """Implements `detection.alerting.ports.Channel`. The URL is a secret: it is in no error."""

    def __init__(self, url: str, trust: Trust) -> None:
        self._http = SinkHttp(url, trust, _JSON, shown="Slack")

    async def send(self, notice: Notice) -> None:
        text = "\n".join(notice.lines()).translate(_ESCAPES)[:_SLACK_TEXT]
        subject = notice.subject().translate(_ESCAPES)[:150]
        blocks = [{"type": "section", "text": {"type": "mrkdwn", "text": f"*{subject}*"}}]
        if text:
            blocks.append({"type": "section", "text": {"type": "plain_text", "text": text}})
        await _posted(self._http, "", msgspec.json.encode({"text": subject, "blocks": blocks}), {})

    async def close(self) -> None:
        await self._http.close()


class WebhookChannel:
    """Implements `detection.alerting.ports.Channel`: signed as Standard Webhooks says, `webhook-id` is the notice's."""

    def __init__(self, url: str, signer: WebhookSigner, trust: Trust, clock: Clock) -> None:
        self._http = SinkHttp(url, trust, _JSON)
        self._signer, self._clock = signer, clock

    async def send(self, notice: Notice) -> None:
        body = msgspec.json.encode(
            {"type": f"rempart.alert.{notice.kind}", "timestamp": rfc3339(notice.at), "data": notice.document()}
        )
        await _posted(self._http, "", body, dict(self._signer.headers(notice.id, int(self._clock.now()), body)))

    async def close(self) -> None:
        await self._http.close()


class AlertmanagerChannel:
    """Implements `detection.alerting.ports.Channel` by POST /api/v2/alerts of Prometheus' Alertmanager.

    An incident keeps its labels for life, so Alertmanager sees one alert; `endsAt` is `quiet` seconds after the last
    alert, which is when it is resolved here, too.
    """

    def __init__(self, url: str, trust: Trust, quiet: float, auth: tuple[str, str] | None = None) -> None:
        self._http = SinkHttp(url, trust, _JSON, auth)
        self._quiet = quiet

    async def send(self, notice: Notice) -> None:
        alerts = [self._alert(incident) for incident in notice.incidents] or [_test(notice)]
        await _posted(self._http, "/api/v2/alerts", msgspec.json.encode(alerts), {})

    def _alert(self, incident: Incident) -> dict[str, object]:
        resolved = incident.standing is Standing.RESOLVED
        return {
            "labels": {
                "alertname": incident.rule,
                "incident": incident.id,
                "about": ",".join(incident.principals),
                "source": "rempart",
            },
            "annotations": {
                "summary": incident.title,
                "description": incident.reason,
                "severity": incident.severity.value,
                "count": str(incident.count),
                "evidence": ",".join(incident.evidence),
            },
            "startsAt": rfc3339(min(incident.first, incident.changed_at)),
            "endsAt": rfc3339(incident.changed_at if resolved else incident.changed_at + self._quiet),
        }

    async def close(self) -> None:
        await self._http.close()


def _test(notice: Notice) -> dict[str, object]:
    return {
        "labels": {"alertname": notice.rule, "source": "rempart", "incident": notice.id},
        "annotations": {"summary": notice.title},
        "startsAt": rfc3339(notice.at),
        "endsAt": rfc3339(notice.at + 60),
    }


async def _posted(http: SinkHttp, path: str, body: bytes, headers: dict[str, str]) -> None:
    answer = await http.send("POST", path, body, headers)
    if not 200 <= answer.status < 300:
        raise Unavailable("channel_unavailable", f"{http.shown} answered {answer.status}", "see docs/alerts.md")
