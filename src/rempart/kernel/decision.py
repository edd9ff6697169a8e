"""What the PDP answers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Decision:
    """Falsy when denied. `rule` and `policy_version` name what decided (requirement D3).

    `status` is the HTTP status of a denial: 401 when who asks isn't proved, 403 when it is, 429 when too
    often, 503 when the PDP failed closed. `code` is the stable code of the problem document.
    """

    id: str
    allow: bool
    rule: str
    reason: str
    policy_version: str
    code: str = ""
    status: int = 200

    def __bool__(self) -> bool:
        return self.allow
