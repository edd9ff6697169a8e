"""Events into Elasticsearch or OpenSearch: `_bulk` with `create`, one index a month, a template of our own.

A document is the event as it was recorded, its `_id` the event's leaf hash in the log: sent again, it is refused as
known, and whoever finds it in the index finds it in the log. Untrusted: whoever owns the cluster can change
and delete what it holds, which the log shows.

Nothing outsiders put into an event can keep it out: fields of theirs (`details`, `before`, `after`) are kept and not
indexed, malformed addresses and numbers are ignored, and a false clock can't open an index for each month there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from rempart.audit.ports import Item, Sent
from rempart.kernel.errors import Unavailable
from rempart.protocols.event_catalogue import is_told
from rempart.protocols.ocsf import decode_summary

from .sink_http import SinkHttp, busy
from .sink_tls import Trust

_FAR = 40 * 86_400_000  # milliseconds an event's time may be off that of the system's own events
_LATEST = 253_402_300_799_000  # the end of the year 9999
_CONTENT = {"content-type": "application/x-ndjson"}
_ONLY = "filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason"
_KEYWORD = {"type": "keyword", "ignore_above": 1024}
_TEXT = {"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 256}}}
_KEPT = {"type": "object", "enabled": False}
_WORDS = (
    *(
        "id",
        "type",
        "source",
        "severity",
        "person",
        "role",
        "workload",
        "operator",
        "service",
        "request_id",
        "trace_id",
    ),
    *("rule", "policy_version", "pep", "method", "path", "code"),
)


def template(index: str) -> dict[str, Any]:
    """The index template; a template of a higher priority than 200 takes its place."""
    number = {"type": "long", "ignore_malformed": True}
    own: dict[str, Any] = dict.fromkeys(_WORDS, _KEYWORD)
    own |= {"at": {"type": "date", "format": "epoch_millis", "ignore_malformed": True}, "success": {"type": "boolean"}}
    own |= {"reason": _TEXT, "ip": {"type": "ip", "ignore_malformed": True}, "status": number}
    own |= {"details": _KEPT, "before": _KEPT, "after": _KEPT}
    properties: dict[str, Any] = {
        "time": {"type": "date", "format": "epoch_millis", "ignore_malformed": True},
        **dict.fromkeys(("class_uid", "category_uid", "activity_id", "type_uid", "severity_id", "status_id"), number),
        "status_detail": _TEXT,
        "metadata": {"properties": {"uid": _KEYWORD, "correlation_uid": _KEYWORD, "log_provider": _KEYWORD}},
        "src_endpoint": {"properties": {"ip": {"type": "ip", "ignore_malformed": True}}},
        "actor": {"properties": {"user": {"properties": {"uid": _KEYWORD}}, "app_uid": _KEYWORD}},
        "user": {"properties": {"uid": _KEYWORD}},
        "unmapped": {"properties": {"rempart": {"dynamic": False, "properties": own}}},
    }
    return {
        "index_patterns": [f"{index}-*"],
        "priority": 200,
        "template": {"mappings": {"dynamic": False, "properties": properties}},
    }


class ElasticsearchSink:
    """Implements `audit.ports.Sink`. `credentials`: ("NAME", "PASSWORD"), or ("", API key), or none."""

    def __init__(self, url: str, index: str, trust: Trust, credentials: tuple[str, str] | None) -> None:
        headers, auth = {}, None
        if credentials is not None and credentials[0]:
            auth = credentials
        elif credentials is not None:
            headers["authorization"] = f"ApiKey {credentials[1]}"
        self._http = SinkHttp(url, trust, headers, auth)
        self._index = index
        self._prepared = False

    async def send(self, batch: Sequence[Item], mark: Mapping[str, Any]) -> Sent:
        """`mark["clock"]`: the time of the last event whose time an application did not choose, in milliseconds."""
        if not self._prepared:
            await self._prepare()
        clock = int(mark.get("clock", 0))
        lines: list[bytes] = []
        for item in batch:
            month, clock = _month(item.payload, clock)
            action = b'{"create":{"_index":"%s-%s","_id":"%s"}}\n'
            lines.append(action % (self._index.encode(), month.encode(), item.id.encode()))
            lines.append(item.payload + b"\n")
        answer = await self._http.send("POST", f"/_bulk?{_ONLY}", b"".join(lines), _CONTENT)
        if answer.status == 413:
            if len(batch) == 1:
                return Sent({"clock": clock}, {batch[0].index: "larger than the receiver takes (413)"})
            raise busy(self._http.url, 413)
        if answer.status != 200:
            self._prepared = False
            raise self._unavailable(f"answered {answer.status} to _bulk")
        return Sent({"clock": clock}, self._refused(batch, answer.body))

    def _refused(self, batch: Sequence[Item], body: bytes) -> dict[int, str]:
        """What was refused for good. Raises Busy or Unavailable when any event has to be sent again."""
        try:
            document = msgspec.json.decode(body)
            if not document["errors"]:
                return {}
            results = [next(iter(item.values())) for item in document["items"]]
            statuses = [int(result["status"]) for result in results]
        except (ValueError, LookupError, TypeError, AttributeError, StopIteration, ArithmeticError, RecursionError):
            raise self._unavailable("answered _bulk with something else") from None
        if len(results) != len(batch):
            raise self._unavailable("did not answer for every event")
        refused: dict[int, str] = {}
        blamed: list[bool] = []
        general = True
        for item, status, result in zip(batch, statuses, results, strict=True):
            if status in (200, 201, 409):  # 409: it is there already
                continue
            error = result.get("error") if isinstance(result.get("error"), dict) else {}
            kind, why = str(error.get("type", "")), str(error.get("reason", ""))
            if status == 429:
                raise busy(self._http.url, 429)
            refused[item.index] = f"{kind}: {why}"
            blamed.append(status != 400 or kind == "index_closed_exception")
            general = general and kind == "illegal_argument_exception"
        if any(blamed) or (general and len(refused) == len(batch)):
            # No event's own fault: blocked, closed or missing indices, shards that are away.
            raise self._unavailable(f"refused events: {next(iter(refused.values()))}"[:250])
        return refused

    async def _prepare(self) -> None:
        body = msgspec.json.encode(template(self._index))
        headers = {"content-type": "application/json"}
        answer = await self._http.send("PUT", f"/_index_template/{self._index}", body, headers)
        if answer.status != 200:
            raise self._unavailable(f"refused the index template with {answer.status}")
        self._prepared = True

    def _unavailable(self, what: str) -> Unavailable:
        return Unavailable("sink_unavailable", f"{self._http.url} {what}", "see docs/siem.md")

    async def close(self) -> None:
        await self._http.close()


def _month(payload: bytes, clock: int) -> tuple[str, int]:
    """The month an event belongs to, and the clock after it: what an application says counts only near the clock.

    A function of the log alone, so that what is sent again goes to the same index.
    """
    summary = decode_summary(payload)
    at = max(0, min(summary.at, _LATEST))
    if not is_told(summary.type, summary.source):
        clock = at
    elif abs(at - clock) > _FAR:
        at = clock
    return f"{datetime.fromtimestamp(at / 1000, UTC):%Y.%m}", clock
