"""Events to any HTTPS receiver, signed as Standard Webhooks says: `{"type", "timestamp", "data": {"events": […]}}`.

The receiver answers 2xx once it has kept them. It checks signature and age and remembers `webhook-id` for as long, so
a message that was recorded on the way is worth nothing; the same events may come again in other messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rempart.audit.ports import Item, Sent
from rempart.crypto.webhooks import WebhookSigner
from rempart.kernel.clock import Clock, rfc3339
from rempart.kernel.errors import Unavailable
from rempart.protocols.ocsf import decode_summary

from .sink_http import SinkHttp, busy
from .sink_tls import Trust


class WebhookSink:
    """Implements `audit.ports.Sink`."""

    def __init__(self, url: str, signer: WebhookSigner, trust: Trust, clock: Clock) -> None:
        self._http = SinkHttp(url, trust, {"content-type": "application/json"})
        self._signer, self._clock = signer, clock

    async def send(self, batch: Sequence[Item], mark: Mapping[str, Any]) -> Sent:
        events = b",".join(item.payload for item in batch)
        body = b'{"type":"rempart.events","timestamp":"%s","data":{"events":[%s]}}' % (_time(batch[-1]), events)
        id = f"{batch[0].id[:32]}-{len(batch)}"
        answer = await self._http.send("POST", "", body, self._signer.headers(id, int(self._clock.now()), body))
        if answer.status == 413 and len(batch) > 1:
            raise busy(self._http.url, 413)
        if answer.status == 413:
            return Sent({}, {batch[0].index: "larger than the receiver takes (413)"})
        if not 200 <= answer.status < 300:
            raise Unavailable("sink_unavailable", f"{self._http.url} answered {answer.status}", "see docs/siem.md")
        return Sent({})

    async def close(self) -> None:
        await self._http.close()


def _time(item: Item) -> bytes:
    """When the event happened; the epoch for what had no sensible clock."""
    try:
        return rfc3339(decode_summary(item.payload).at / 1000).encode()
    except (ValueError, OverflowError, OSError):
        return rfc3339(0).encode()
