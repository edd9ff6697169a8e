"""`docs/events.md`, made from the catalogue: `python -m rempart.protocols.event_page > docs/events.md`."""

from __future__ import annotations

from .event_catalogue import BY_METHOD, CATALOGUE, PERSONAL, Kind, Ocsf, Retention
from .ocsf import VERSION

_PERSONAL = ", ".join(f"`{name}`" for name in sorted(PERSONAL))
_HEAD = f"""# Events

Made from `src/rempart/protocols/event_catalogue.py` by `python -m rempart.protocols.event_page`; don't edit it here.

Every event says who (`person`, `role`, `workload`, `operator`), what (`type`, `details`, `before`, `after`), when
(`at`), from where (`ip`), the outcome (`success`, `reason`) and to what it belongs (`service`, `request_id`,
`trace_id`), as OCSF {VERSION} and once more under `unmapped.rempart`: see [audit.md](audit.md). `application` under
"made by" is what services tell by `POST /events`. "Kept as" is the class that `[audit.retention]` sets a time for.

Nothing in an event is a secret. What says something about a person besides their id
({_PERSONAL}) is encrypted in the log
under a key of that person's own: see [Erasing a person](audit.md#erasing-a-person).
"""
_NAMES = {
    Ocsf.EVENT_LOG: "Event Log Activity",
    Ocsf.FINDING: "Detection Finding",
    Ocsf.ACCOUNT: "Account Change",
    Ocsf.AUTHENTICATION: "Authentication",
    Ocsf.ENTITY: "Entity Management",
    Ocsf.NETWORK: "Network Activity",
    Ocsf.HTTP: "HTTP Activity",
    Ocsf.APPLICATION: "Application Lifecycle",
    Ocsf.API: "API Activity",
    Ocsf.SCAN: "Scan Activity",
}


def page() -> str:
    parts = [_HEAD]
    for retention in Retention:
        parts.append(f"\n## Kept as `{retention}`\n")
        parts.append(
            "| type | meaning | OCSF | severity | made by | details | personal |\n|---|---|---|---|---|---|---|\n"
        )
        parts += [_row(kind) for kind in CATALOGUE.values() if kind.retention is retention]
    return "".join(parts)


def _row(kind: Kind) -> str:
    activity = "by method" if kind.activity == BY_METHOD else str(kind.activity)
    cells = (
        f"`{kind.type}`",
        kind.meaning,
        f"{_NAMES[kind.ocsf]} {kind.ocsf.value}/{activity}",
        kind.severity,
        ", ".join(kind.emitters),
        ", ".join(kind.fields),
        ", ".join(kind.personal),
    )
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    print(page(), end="")
