"""The sequencer's HTTP faces: reading (operator and observer), events of applications, metrics."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import msgspec

from rempart.kernel.errors import BadInput, MethodNotAllowed, NotFound, Unavailable
from rempart.kernel.event import Event
from rempart.protocols.http_pages import JSON, NO_CONTENT, Ask, Handler, Page
from rempart.telemetry.exposition import CONTENT_TYPE

from .checkpoint import Checkpoint
from .cosigning import Cosigning
from .feed import read_page, read_start
from .intake import MAX_BODY_BYTES, read_events, types_with
from .model import MAX_LIMIT, Query
from .ports import SearchIndex
from .search_turns import SearchTurns
from .sequencer import Sequencer
from .tiles import TILE, place
from .when import milliseconds

_PARAMETERS = frozenset(
    (
        "person",
        "workload",
        "type",
        "since",
        "until",
        "decision",
        "rule",
        "path",
        "text",
        "limit",
        "before",
        "full",
        "after",
        "wait",
        "asker",
        "fresh",
    )
)
_DECISIONS = {"allow": True, "deny": False}
_MOMENT = 1.0  # seconds
PROOF_FORMAT = "rempart-proof/v1"


class Intake(Protocol):
    async def keep(self, events: list[Event]) -> None:
        """Return when durable."""


class Service(Intake, Protocol):
    """What the process around the sequencer does for these faces."""

    sequencer: Sequencer
    cosigning: Cosigning
    turns: SearchTurns

    async def integrated(self) -> None:
        """Return once everything that was durable when called is in the log. Raises Unavailable."""

    async def grown(self, size: int, seconds: float) -> None:
        """Return when the log has more than `size` events, after `seconds`, or when the process is to end."""

    def metrics(self) -> str:
        """A Prometheus page."""


def reading(service: Service) -> Handler:
    """GET `/search` (`asker`: for whom, where one process asks for many; `fresh=1`: everything that was recorded when
    it was asked is looked through, or the answer says `"fresh": false`), `/entries/{start}`, `/events/{id}`,
    `/proofs/{id}`, `/checkpoint`, `/witnesses`, `/consistency/{size}`, `/index`; and `/tile/…`: with `/checkpoint`
    the log as c2sp.org/tlog-tiles has it."""

    async def answer(ask: Ask) -> Page:
        if ask.method != "GET":
            raise MethodNotAllowed("read_only", "the record is only read here", "use GET")
        path, asked, sequencer = ask.path, ask.query, service.sequencer
        if path == "/index":
            return answered(index_state(sequencer))
        if path == "/search":
            query = _query(ask.given)
            if query.after is not None and "wait" in asked:
                await service.grown(*read_start(str(query.after), asked["wait"]))
            async with service.turns.turn(asked.get("asker") or ask.client) as crowded:
                sequencer.index_some()
                known = {}
                if asked.get("fresh") == "1":
                    known = {"fresh": not crowded() and await _all_can_be_found(service)}
                full = asked.get("full") == "1"
                page = await asyncio.to_thread(_search, sequencer, sequencer.index, query, crowded, full=full)
                return answered(page | known)
        if path == "/checkpoint":
            return Page(200, "text/plain; charset=utf-8", sequencer.log.checkpoint.encode())
        if path == "/witnesses":
            cosigning = service.cosigning
            return answered({"checkpoint": cosigning.note, "size": cosigning.size, "witnesses": cosigning.cosigners()})
        if path == "/checkpoint.json":
            return answered({"checkpoint": sequencer.log.checkpoint, "size": sequencer.log.size})
        if tile := TILE.fullmatch(path):
            level, number, width = place(tile)
            raw = await asyncio.to_thread(sequencer.log.tile, level, number, width)
            if raw is None:
                raise NotFound("no_such_tile", "the log has no such tile", "read /checkpoint for its size")
            return Page(200, "application/octet-stream", raw)
        kind, _, id = path[1:].partition("/")
        if kind == "entries":
            return await _entries(service, id, asked)
        if kind == "consistency" and id.isascii() and id.isdigit() and len(id) < 18:
            return answered(_consistency(sequencer, int(id)))
        if kind not in ("events", "proofs") or not id:
            raise NotFound("no_such_resource", "nothing is at this path", "ask for /search, /events/ID or /proofs/ID")
        found = await _locate(service, id)
        if kind == "proofs":
            witnessed = _witnessed(service) if asked.get("witnessed") == "1" else ""
            return answered(_proof(sequencer, found[0], witnessed))
        return answered({**_event(sequencer, found[0]), "related": [_row(sequencer, at) for at in found[1:]]})

    return answer


def feed(service: Service) -> Handler:
    """GET `/entries/{start}` and nothing else."""

    async def answer(ask: Ask) -> Page:
        kind, _, start = ask.path[1:].partition("/")
        if ask.method != "GET" or kind != "entries":
            raise NotFound("no_such_resource", "nothing is at this path", "ask for /entries/START")
        return await _entries(service, start, ask.query)

    return answer


async def _entries(service: Service, path: str, asked: Mapping[str, str]) -> Page:
    start, seconds = read_start(path, asked.get("wait"))
    if seconds:
        await service.grown(start, seconds)
    return Page(200, JSON, read_page(service.sequencer.log, start))


def events(service: Intake, source: str, groups: Iterable[str] = ()) -> Handler:
    """POST `/events` on the socket of the service `source`: 204 once durable. `groups`: as `intake.types_with`."""

    types = types_with(groups)

    async def answer(ask: Ask) -> Page:
        if ask.path != "/events":
            raise NotFound("no_such_resource", "nothing is at this path", "post to /events")
        if ask.method != "POST":
            raise MethodNotAllowed("post_only", "events are posted here", "use POST")
        body = await ask.body(MAX_BODY_BYTES, remedy="post fewer events at once")
        await service.keep(read_events(body, source, types))
        return NO_CONTENT

    return answer


def metrics(service: Service) -> Handler:
    """GET `/metrics` and `/healthz`."""

    async def answer(ask: Ask) -> Page:
        if ask.path == "/healthz":
            return answered({"ready": True})
        if ask.path != "/metrics":
            raise NotFound("no_such_resource", "nothing is at this path", "ask for /metrics")
        return Page(200, CONTENT_TYPE, service.metrics().encode())

    return answer


def answered(document: Any) -> Page:
    return Page(200, JSON, msgspec.json.encode(document))


async def _all_can_be_found(service: Service) -> bool:
    """Whether what was recorded until now is in the index; False where that would take more than a moment or two."""
    sequencer = service.sequencer
    try:
        await service.integrated()
    except Unavailable:
        return False
    size = sequencer.log.size
    deadline = time.monotonic() + _MOMENT
    while sequencer.index.size < size and time.monotonic() < deadline:
        sequencer.index_some()
        await asyncio.sleep(0)
    return sequencer.index.size >= size


async def _locate(service: Service, id: str) -> list[int]:
    """An event that was answered a moment ago may still be in its journal only: integrate, then look again."""
    found = service.sequencer.locate(id)
    if not found:
        await service.integrated()
        found = service.sequencer.locate(id)
    if not found and (missing := service.sequencer.unindexed):
        raise Unavailable(
            "index_building", f"not found, and {missing} events are not indexed yet", "ask again, in a minute"
        )
    if not found:
        raise NotFound("no_such_event", f"no event, decision or request {id[:100]!r} is recorded", "see `audit search`")
    return found


def _query(asked: Iterable[tuple[str, str]]) -> Query:
    given: dict[str, str] = {}
    for name, value in asked:
        if name not in _PARAMETERS:
            raise BadInput(
                "unknown_parameter", f"{name[:50]!r} is not a parameter", f"use {', '.join(sorted(_PARAMETERS))}"
            )
        if name in given or not value or len(value) > 2048:
            raise BadInput("bad_parameter", f"{name} is empty, too long or given twice", "give each once")
        given[name] = value
    now = time.time()
    if given.get("fresh", "1") != "1":
        raise BadInput("bad_parameter", "fresh is 1 or left out", "use fresh=1")
    decision = given.get("decision")
    if decision is not None and decision not in _DECISIONS:
        raise BadInput("bad_parameter", "decision is allow or deny", "use decision=deny")
    return Query(
        person=given.get("person"),
        workload=given.get("workload"),
        type=given.get("type"),
        since=milliseconds(given["since"], now) if "since" in given else None,
        until=milliseconds(given["until"], now) if "until" in given else None,
        allowed=_DECISIONS[decision] if decision else None,
        rule=given.get("rule"),
        path=given.get("path"),
        text=given.get("text"),
        before=_number(given, "before", 0, 1 << 60) if "before" in given else None,
        after=_number(given, "after", 0, 1 << 60) if "after" in given else None,
        limit=_number(given, "limit", 1, MAX_LIMIT) if "limit" in given else 100,
    )


def _number(given: Mapping[str, str], name: str, least: int, most: int) -> int:
    text = given[name]
    if text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most:
        return int(text)
    raise BadInput("bad_parameter", f"{name} is not a number from {least} to {most}", "give a plain number")


def _search(
    sequencer: Sequencer, index: SearchIndex, query: Query, crowded: Callable[[], bool], *, full: bool
) -> dict[str, Any]:
    """`next` is the `before` of the next page, null on the last one; events from `indexed` on may be missing. `full`
    gives whole OCSF events under `event`.

    Runs beside the loop: a broad search delays no event.
    """
    indexed = index.size
    found = index.find(query, crowded)
    return {
        "events": [_event(sequencer, at) if full else _row(sequencer, at) for at in found],
        "next": found[-1] if len(found) == query.limit else None,
        "size": sequencer.log.size,
        "indexed": indexed,
    }


def index_state(sequencer: Sequencer) -> dict[str, int]:
    return {"indexed": sequencer.index.size, "size": sequencer.log.size}


def _row(sequencer: Sequencer, index: int) -> dict[str, Any]:
    """What Rempart itself says of the event, with its index in the log and its time as text."""
    document = msgspec.json.decode(sequencer.log.entry(index))
    own: dict[str, Any] = document["unmapped"]["rempart"]
    return {"index": index, "time": _time(own["at"]), **own}


def _event(sequencer: Sequencer, index: int) -> dict[str, Any]:
    return {"index": index, "event": msgspec.json.decode(sequencer.log.entry(index))}


def _proof(sequencer: Sequencer, index: int, witnessed: str = "") -> dict[str, Any]:
    """All that `audit.verifier` needs; binary values in base64. `witnessed`: against that checkpoint."""
    note = witnessed or sequencer.log.checkpoint
    size = Checkpoint.decode(note).size
    if index >= size:
        raise NotFound("not_witnessed", f"the witnesses have cosigned {size} events, this is later", "wait for them")
    payload = sequencer.log.leaf(index)
    return {
        "format": PROOF_FORMAT,
        "id": msgspec.json.decode(payload)["metadata"]["uid"],
        "event": msgspec.json.decode(payload),
        "payload": base64.b64encode(payload).decode(),
        "index": index,
        "inclusion": [base64.b64encode(part).decode() for part in sequencer.log.prove_inclusion(index, size)],
        "checkpoint": note,
    }


def _witnessed(service: Service) -> str:
    if not service.cosigning.note:
        raise NotFound("not_witnessed", "no witness has cosigned this log yet", "see [audit] in rempart.toml")
    return service.cosigning.note


def _consistency(sequencer: Sequencer, old: int) -> dict[str, Any]:
    if old > sequencer.log.size:
        raise NotFound("no_such_size", f"the log has {sequencer.log.size} events", "ask for a smaller size")
    proof = sequencer.log.prove_consistency(old)
    return {
        "old": old,
        "proof": [base64.b64encode(part).decode() for part in proof],
        "checkpoint": sequencer.log.checkpoint,
    }


def _time(at: int) -> str:
    from rempart.kernel.clock import rfc3339

    try:
        return rfc3339(at / 1000)
    except (ValueError, OverflowError, OSError):
        return ""  # the process that made the event had no sensible clock


def unavailable(what: str) -> Unavailable:
    return Unavailable("sequencer_behind", what, "see `rempart status`")
