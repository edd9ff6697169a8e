"""Pages of the PDP for the operator, the observer and Prometheus."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from rempart.kernel.errors import BadInput, NotFound, Unavailable
from rempart.protocols.http_pages import JSON, Ask, Page, json_page
from rempart.telemetry.exposition import CONTENT_TYPE

from .bundle import dump
from .decide import Decider
from .epochs import Follower
from .keeper import Keeper
from .model import Bundle
from .outbox import Outbox
from .verdict import read_verdict

_OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_OF_COUNTERS = re.compile(r"^(# (?:HELP|TYPE) \w+)_total ", re.MULTILINE)  # which OpenMetrics names without `_total`


class Pages:
    """`admin`, `policies` and `metrics` are the handlers of the sockets of those names."""

    def __init__(
        self,
        keeper: Keeper,
        decider: Decider,
        outbox: Outbox,
        given: Mapping[str, Any],
        follower: Follower | None = None,
        more: Callable[[], str] = str,
    ) -> None:
        """`more`: what else the metrics page has."""
        self._keeper = keeper
        self._decider = decider
        self._outbox = outbox
        self._given = given
        self._follower = follower
        self._more = more
        self._dumped: tuple[Bundle | None, bytes] = None, b""

    async def admin(self, ask: Ask) -> Page:
        """`GET /policy`, `POST /policy/reload`, `POST /policy/eval`, `GET /policy/files`, `GET /policy/given`."""
        match ask.method, ask.path:
            case "GET", "/policy":
                return json_page(self._state())
            case "POST", "/policy/reload":
                await self._keeper.reload(ask.client)
                return json_page(self._state())
            case "GET", "/policy/files":
                return json_page({"policies": self._keeper.documents()})
            case "GET", "/policy/given":
                return json_page(dict(self._given))
            case "POST", "/policy/eval":
                return json_page(self._evaluate(await ask.json()))
        raise NotFound("no_such_resource", f"{ask.method} {ask.path} is nothing here", "see docs/policy.md")

    async def policies(self, ask: Ask) -> Page:
        if ask.method == "GET" and ask.path == "/bundle" and (bundle := self._keeper.bundle) is not None:
            if self._dumped[0] is not bundle:  # asked every second for each other host, between questions of Envoys
                self._dumped = bundle, dump(bundle)
            return Page(200, JSON, self._dumped[1])
        if ask.method != "GET" or ask.path not in ("/policies", "/opa/policies"):
            raise NotFound("no_such_resource", "only GET /policies and /bundle are here", "ask for /policies")
        return json_page(self._keeper.documents())

    async def metrics(self, ask: Ask) -> Page:
        if ask.method != "GET" or ask.path != "/metrics":
            raise NotFound("no_such_resource", "only GET /metrics is here", "ask for /metrics")
        openmetrics = any("application/openmetrics-text" in one for one in ask.values(b"accept"))
        page = self._metrics(examples=openmetrics)
        if not openmetrics:
            return Page(200, CONTENT_TYPE, page.encode())
        return Page(200, _OPENMETRICS, (_OF_COUNTERS.sub(r"\1 ", page) + "# EOF\n").encode())

    def _state(self) -> dict[str, Any]:
        state = self._keeper.state
        if state is None:
            raise Unavailable("no_policy", "no policy is loaded", "see `rempart logs pdp`")
        document: dict[str, Any] = msgspec.to_builtins(state)
        deciding = self._decider.deciding
        document["fallbacks"] = deciding.evaluator.fallbacks if deciding else 0
        document["audit_failure"] = self._outbox.last_failure
        return document

    def _evaluate(self, body: Any) -> dict[str, Any]:
        if not isinstance(body, dict) or not isinstance(body.get("input"), dict):
            raise BadInput("bad_input", 'the body is not {"input": {…}}', "give the policy input as an object")
        deciding = self._decider.deciding
        if deciding is None:
            raise Unavailable("no_policy", "no policy is loaded", "see `rempart logs pdp`")
        verdict = read_verdict(deciding.evaluator.evaluate(json.dumps(body["input"])))
        return {**msgspec.to_builtins(verdict), "policy_version": deciding.version}

    def _metrics(self, *, examples: bool) -> str:
        counters = self._decider.counters
        lines = [
            "# HELP rempart_decisions_total Decisions by enforcement point, outcome and code",
            "# TYPE rempart_decisions_total counter",
        ]
        for (pep, outcome, code), count in sorted(counters.decisions.items()):
            lines.append(f'rempart_decisions_total{{pep="{pep}",outcome="{outcome}",code="{code}"}} {count}')
        lines += [
            "# HELP rempart_decision_seconds Time to decide, without making it durable",
            "# TYPE rempart_decision_seconds histogram",
        ]
        total = 0
        for index, (bound, count) in enumerate(zip((*counters.seconds, "+Inf"), counters.buckets, strict=True)):
            total += count
            example = counters.examples.get(index) if examples else None
            shown = f' # {{trace_id="{example[0]}"}} {example[1]:.9f} {example[2]:.3f}' if example else ""
            lines.append(f'rempart_decision_seconds_bucket{{le="{bound}"}} {total}{shown}')
        lines += [
            f"rempart_decision_seconds_sum {counters.total_seconds:.6f}",
            f"rempart_decision_seconds_count {total}",
        ]
        lines += _single(
            "rempart_decisions_unrecorded_total",
            "counter",
            "Batches refused because they could not be made durable",
            counters.unrecorded,
        )
        lines += _single(
            "rempart_pdp_malformed_total", "counter", "Questions that were not HTTP ext_authz", counters.malformed
        )
        epochs = self._decider.epochs
        lines += _single("rempart_epochs", "gauge", "Subjects whose tokens of before are refused", len(epochs.told_of))
        if self._follower is not None:
            about = "Seconds since people last said whose tokens are refused"
            lines += _single("rempart_epochs_silence_seconds", "gauge", about, round(self._follower.silence, 3))
            about = "1 while those who administer others are refused for that silence"
            lines += _single("rempart_epochs_stale", "gauge", about, int(epochs.stale))
        state, deciding = self._keeper.state, self._decider.deciding
        if state and deciding:
            lines += ["# HELP rempart_policy_info The policy in force", "# TYPE rempart_policy_info gauge"]
            lines.append(f'rempart_policy_info{{version="{state.version}",evaluator="{state.evaluator}"}} 1')
            lines += _single("rempart_policy_loaded_timestamp_seconds", "gauge", "When it was loaded", state.loaded_at)
            lines += _single(
                "rempart_policy_refused",
                "gauge",
                "1 while the policy directory holds a policy that was refused",
                int(bool(state.refused)),
            )
            lines += _single(
                "rempart_policy_fallbacks_total",
                "counter",
                "Inputs on which the RVM gave up and the interpreter answered",
                deciding.evaluator.fallbacks,
            )
        return "\n".join(lines) + "\n" + _process_metrics() + self._more()


def _single(name: str, kind: str, about: str, value: float) -> list[str]:
    return [f"# HELP {name} {about}", f"# TYPE {name} {kind}", f"{name} {value}"]


def _process_metrics() -> str:
    from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return generate_latest(registry).decode()
