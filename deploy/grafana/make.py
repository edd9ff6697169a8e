"""Writes the dashboards beside it: `python deploy/grafana/make.py`. Change them here, not in the JSON.

Import the JSON in Grafana (11 or later) and choose the Prometheus that scrapes Rempart; docs/watch.md says how.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
_SOURCE = {"type": "prometheus", "uid": "${source}"}
Panel = tuple[str, str, str, dict[str, str]]
"""(title, what it tells, unit, {legend: PromQL})"""

_REQUESTS = 'envoy_http_downstream_rq_xx{envoy_http_conn_manager_prefix=~"gateway|ingress"}'
_TIMES = 'envoy_http_downstream_rq_time_bucket{envoy_http_conn_manager_prefix=~"gateway|ingress"}'
_FOREIGN = "multiple_uri_sans|bad_spiffe_id|peer_not_allowed|no_peer|workload_not_allowed"
_TLS = ("connection_error", "fail_verify_no_cert", "fail_verify_error", "fail_verify_san")


def _quantile(q: float, series: str, by: str = "") -> str:
    by = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({by}) (rate({series}[$__rate_interval])))"


def _rate(series: str, by: str) -> str:
    return f"sum by ({by}) (rate({series}[$__rate_interval]))"


DASHBOARDS: dict[str, tuple[str, list[Panel]]] = {
    "path": (
        "the path of a request: rate, errors and time at every hop, and what runs",
        [
            (
                "Requests",
                "answered by the gateway and by each sidecar",
                "reqps",
                {"{{component}}": _rate(_REQUESTS, "component")},
            ),
            (
                "Failures of ours",
                "answers 5xx: a service failed, or Rempart failed closed (503)",
                "reqps",
                {"{{component}}": _rate(_REQUESTS.replace("{", '{envoy_response_code_class="5",'), "component")},
            ),
            (
                "Refusals",
                "answers 4xx: no token, no permission, malformed, too many",
                "reqps",
                {"{{component}}": _rate(_REQUESTS.replace("{", '{envoy_response_code_class="4",'), "component")},
            ),
            (
                "Time of a request",
                "until the answer is whole; everything behind the hop included",
                "ms",
                {
                    "p50 {{component}}": _quantile(0.5, _TIMES, "component"),
                    "p99 {{component}}": _quantile(0.99, _TIMES, "component"),
                },
            ),
            (
                "Time of a decision",
                "in the PDP, before it is made durable",
                "s",
                {f"p{p}": _quantile(p / 100, "rempart_decision_seconds_bucket") for p in (50, 99)},
            ),
            ("Processes", "1 runs and is ready", "short", {"{{process}}": "rempart_process_up"}),
            (
                "Restarts",
                "a process that ended by itself",
                "short",
                {"{{process}}": "increase(rempart_process_restarts_total[1h])"},
            ),
            (
                "Components that answer",
                "their counts are on this page; 0 is silence",
                "short",
                {"{{component}}": "rempart_component_up"},
            ),
        ],
    ),
    "identities": (
        "who is who: identities of workloads, logins, tokens and the keys under them",
        [
            (
                "Identities issued",
                "SVIDs to workloads",
                "ops",
                {"{{kind}}": _rate("rempart_svids_issued_total", "kind")},
            ),
            (
                "Identities refused",
                "callers whom no registration entry fits",
                "short",
                {"refused": "sum(increase(rempart_svids_refused_total[5m]))"},
            ),
            (
                "Shortest life left",
                "of the SVIDs in use: it must never near 0",
                "s",
                {"left": "min(rempart_svid_remaining_seconds_min)"},
            ),
            (
                "Issuing authorities",
                "seconds until each ends",
                "s",
                {"{{kind}}": "rempart_issuing_authority_remaining_seconds"},
            ),
            (
                "Logins",
                "by outcome; busy and throttled were not judged",
                "ops",
                {"{{outcome}}": _rate("rempart_people_logins_total", "outcome")},
            ),
            (
                "Refreshes",
                "of people's tokens",
                "ops",
                {"{{outcome}}": _rate("rempart_people_refreshes_total", "outcome")},
            ),
            (
                "Waiting for the password pool",
                "logins that wait for a hash",
                "short",
                {"waiting": "max(rempart_people_argon2_queue)"},
            ),
            ("Age of signing keys", "by state", "s", {"{{state}}": "rempart_people_signing_key_age_seconds"}),
        ],
    ),
    "decisions": (
        "what was decided: by point, outcome and reason, and the record of it",
        [
            (
                "Decisions",
                "by enforcement point",
                "ops",
                {"{{pep}} {{outcome}}": _rate("rempart_decisions_total", "pep, outcome")},
            ),
            (
                "Why refused",
                "codes of the problem documents",
                "ops",
                {"{{code}}": _rate('rempart_decisions_total{outcome="deny"}', "code")},
            ),
            (
                "Refused for want of a record",
                "503: the journal could not be written",
                "short",
                {"batches": "sum(increase(rempart_decisions_unrecorded_total[5m]))"},
            ),
            (
                "A refused policy",
                "1 while the directory holds one that is not in force",
                "short",
                {"refused": "max(rempart_policy_refused)"},
            ),
            ("Events recorded", "by type", "ops", {"{{type}}": _rate("rempart_audit_events_total", "type")}),
            (
                "Record behind",
                "seconds since every journal was read to its end",
                "s",
                {"behind": "max(rempart_audit_lag_seconds)"},
            ),
            (
                "Waiting in journals",
                "bytes that are not wholly in the log",
                "bytes",
                {"{{journal}}": "rempart_audit_journal_backlog_bytes"},
            ),
            (
                "Size of the log",
                "events under the checkpoint, and its age",
                "short",
                {"events": "max(rempart_audit_log_size)", "age (s)": "max(rempart_audit_checkpoint_age_seconds)"},
            ),
        ],
    ),
    "security": (
        "what somebody tries: forged tokens, foreign certificates, guessing, probing",
        [
            (
                "Forged tokens",
                "tokens that did not verify",
                "short",
                {"{{pep}}": 'sum by (pep) (increase(rempart_decisions_total{code="invalid_token"}[5m]))'},
            ),
            (
                "Foreign workloads",
                "certificates that name nobody we know, or too many",
                "short",
                {
                    "{{pep}} {{code}}": "sum by (pep, code) "
                    f'(increase(rempart_decisions_total{{code=~"{_FOREIGN}"}}[5m]))'
                },
            ),
            (
                "Handshakes refused",
                "by Envoy, before any request",
                "short",
                {
                    f"{{{{component}}}} {kind}": f"sum by (component) (increase(envoy_listener_ssl_{kind}[5m]))"
                    for kind in _TLS
                },
            ),
            (
                "Malformed requests",
                "smuggling, forbidden characters, sizes",
                "short",
                {"refused": 'sum(increase(rempart_audit_events_total{type="mesh.request_refused"}[5m]))'},
            ),
            (
                "Failed logins",
                "wrong, and turned away",
                "short",
                {
                    "{{outcome}}": "sum by (outcome) "
                    '(increase(rempart_people_logins_total{outcome=~"fail.*|throttled"}[5m]))'
                },
            ),
            (
                "Tokens used twice",
                "one of two holders stole it",
                "short",
                {"reused": 'sum(increase(rempart_audit_events_total{type="people.token_reused"}[15m]))'},
            ),
            (
                "Money refused",
                "no funds, over a limit, the same rollback again",
                "short",
                {"refused": 'sum(increase(rempart_audit_events_total{type="money.refused"}[5m]))'},
            ),
            (
                "Alarms",
                "what must not be, and was",
                "short",
                {"alarms": 'sum(increase(rempart_audit_events_total{type="system.alarm"}[1h]))'},
            ),
            (
                "Detections",
                "alerts and signals of the last hour, by rule and severity",
                "short",
                {"{{severity}} {{rule}}": "topk(10, sum by (rule, severity) (increase(rempart_detections_total[1h])))"},
            ),
            (
                "Incidents",
                "that are kept, by standing; only with a channel for alerts",
                "short",
                {"{{standing}}": "sum by (standing) (rempart_incidents)"},
            ),
            (
                "The detector is behind",
                "events in the log that it has not looked at yet",
                "short",
                {"events": "max(rempart_detector_behind_events)"},
            ),
            (
                "Alerts on their way",
                "notices that wait for a channel, and those that it lost",
                "short",
                {
                    "{{channel}} waiting": "sum by (channel) (rempart_alert_channel_waiting)",
                    "{{channel}} lost": "sum by (channel) (increase(rempart_alert_channel_lost_total[1h]))",
                },
            ),
            (
                "Risks that models raised",
                "whose doing is unusual now, how many were told in an hour, and how many beyond; only with models",
                "short",
                {
                    "raised now": "max(rempart_models_risks)",
                    "told in an hour": "sum(increase(rempart_models_risks_total[1h]))",
                    "beyond": "sum(increase(rempart_models_suppressed_total[1h]))",
                },
            ),
            (
                "Rated by models",
                "what was looked at, by subject and level",
                "ops",
                {"{{subject}} {{level}}": _rate("rempart_models_rated_total", "subject, level")},
            ),
            (
                "Models",
                "1 in force or refused; features that drifted since the training",
                "short",
                {
                    "{{subject}} in force": "max by (subject) (rempart_models_in_force)",
                    "{{subject}} refused": "max by (subject) (rempart_models_refused)",
                    "{{subject}} drifted": "max by (subject) (rempart_models_drifted)",
                },
            ),
            (
                "What models learn from",
                "rows kept for the next training, and events in the log not yet taken",
                "short",
                {
                    "{{subject}}": "max by (subject) (rempart_models_samples)",
                    "behind": "max(rempart_models_behind_events)",
                },
            ),
        ],
    ),
}


def dashboard(name: str) -> dict[str, Any]:
    about, panels = DASHBOARDS[name]
    return {
        "uid": f"rempart-{name}",
        "title": f"Rempart: {name}",
        "description": about,
        "tags": ["rempart"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "utc",
        "templating": {
            "list": [{"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}]
        },
        "links": [
            {"type": "dashboards", "title": "Rempart", "tags": ["rempart"], "asDropdown": False, "keepTime": True}
        ],
        "panels": [_panel(number, *panel) for number, panel in enumerate(panels)],
    }


def _panel(number: int, title: str, about: str, unit: str, queries: dict[str, str]) -> dict[str, Any]:
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": title,
        "description": about,
        "datasource": _SOURCE,
        "gridPos": {"x": 12 * (number % 2), "y": 8 * (number // 2), "w": 12, "h": 8},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": {"fillOpacity": 10}}, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {"refId": chr(65 + at), "datasource": _SOURCE, "expr": expression, "legendFormat": legend}
            for at, (legend, expression) in enumerate(queries.items())
        ],
    }


if __name__ == "__main__":
    for made in DASHBOARDS:
        (HERE / f"{made}.json").write_text(json.dumps(dashboard(made), indent=1) + "\n")
