"""What an attack is, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .scene import Scene
    from .wire import Reply


class Stride(StrEnum):
    """What the attack is after (Shostack, "Threat Modeling", chapter 3)."""

    SPOOFING = "S"
    TAMPERING = "T"
    REPUDIATION = "R"
    DISCLOSURE = "I"
    DENIAL = "D"
    ELEVATION = "E"


class Actor(StrEnum):
    OUTSIDER = "outsider"
    STOLEN_TOKEN = "stolen token"  # nosec B105 - the name of an actor
    ROGUE_WORKLOAD = "rogue workload"
    INSIDER = "insider"


class Alert(StrEnum):
    """The rule of deploy/prometheus that fires when the attack is repeated; tests hold the names against the rules."""

    NONE = ""
    FORGED_TOKENS = "RempartForgedTokens"
    SVIDS_DENIED = "RempartSvidsDenied"
    DENY_BURST = "RempartPolicyDenyBurst"
    HANDSHAKES = "RempartHandshakesRefused"
    REQUESTS = "RempartRequestsRefused"
    LOGIN_FAILURES = "RempartLoginFailures"
    LOGIN_THROTTLED = "RempartLoginsThrottled"
    REFRESH_REUSE = "RempartRefreshTokenReused"
    MONEY = "RempartMoneyRefused"


@dataclass(frozen=True, slots=True)
class Trace:
    """Where to look in the record when no answer named a decision: events of these `types` since the attack began.

    `contains` must occur somewhere in the event; `around`: how many seconds before or after the attack it may be.
    """

    types: tuple[str, ...]
    contains: str = ""
    around: float = 1.0


# Alike refusals are recorded once in ten seconds; the count of the others follows within ten more.
SVID_REFUSED = Trace(("workloads.svid_refused",), around=20.0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """`blocked` is None when the attack could not be tried here; `observed` then says why.

    `evidence` is the id of a decision or event, a Trace to be looked up, or other words for what proves it.
    """

    blocked: bool | None
    observed: str
    stopped_by: str = ""
    evidence: str | Trace = ""


@dataclass(frozen=True, slots=True)
class Attack:
    """`alone`: it measures what others would disturb (money, time, rates), so nothing else may run meanwhile.

    `needs`: what of the example bank it is about, as `Scene.lacks` knows it: routes (`/wallet`) and clients.
    """

    id: str
    actor: Actor
    title: str
    tried: str
    expected: str
    run: Callable[[Scene], Outcome]
    alert: Alert = Alert.NONE
    alone: bool = False
    needs: tuple[str, ...] = ()

    @property
    def stride(self) -> Stride:
        return Stride(self.id[0])


@dataclass(frozen=True, slots=True)
class Finding:
    """An attack that was tried."""

    attack: Attack
    blocked: bool | None
    observed: str
    stopped_by: str
    evidence: str

    def document(self) -> dict[str, Any]:
        """As interface.md has it; `blocked` is null for one that could not be tried."""
        return {
            "id": self.attack.id,
            "stride": str(self.attack.stride),
            "actor": str(self.attack.actor),
            "title": self.attack.title,
            "tried": self.attack.tried,
            "expected": self.attack.expected,
            "observed": self.observed,
            "blocked": self.blocked,
            "stopped_by": self.stopped_by,
            "evidence": self.evidence,
            "alert": str(self.attack.alert),
        }


def blocked(observed: str, stopped_by: str, evidence: str | Trace = "") -> Outcome:
    return Outcome(True, observed, stopped_by, evidence)


def got_through(observed: str, evidence: str | Trace = "") -> Outcome:
    return Outcome(False, observed, "", evidence)


def not_tried(reason: str) -> Outcome:
    return Outcome(None, reason)


def refused(reply: Reply, *statuses: int, by: str = "") -> Outcome:
    """Blocked when the answer has one of `statuses` (default 401 and 403); anything else got through.

    Not even a 5xx counts as blocked: a crash is no defence.
    """
    if reply.status in (statuses or (401, 403)):
        return blocked(reply.said, by or stopped_by(reply), reply.evidence)
    return got_through(reply.said, reply.evidence)


def stopped_by(reply: Reply) -> str:
    """Which of the enforcing parts answered, as far as can be told from outside."""
    if reply.code in ("invalid_token", "no_token", "token_required"):
        return "token verification"
    if reply.code == "rate_limited":
        return "rate limit"
    if reply.decision:
        return "policy decision"
    return "gateway" if reply.status in (400, 404, 405, 408, 413, 426, 431) else "service"
