"""What a policy's decision document says."""

from __future__ import annotations

import functools
import json
from typing import Any

from .answer import REASONS
from .model import Verdict

_POLICY_STATUS = frozenset(REASONS) - {503}


@functools.lru_cache(maxsize=512)
def read_verdict(decision_json: str) -> Verdict:
    """What a policy's decision document says; whatever isn't clearly an allow is a refusal.

    `{allow: true, rule, reason}`; `{allow: false, rule, reason, code?, status?}`; `{allow, deny: [reasons]}`; a bare
    boolean. Undefined (`null`) is a refusal. Most requests get one of few documents: the last ones read are remembered.
    """
    value: Any = json.loads(decision_json)
    if value is None or isinstance(value, bool):
        reason = "" if value else ("the policy says no" if value is False else "the policy gives no decision")
        return Verdict(value is True, "decision", reason)
    if not isinstance(value, dict):
        return Verdict(False, "decision", "the policy's decision is neither an object nor a boolean")
    denials = value.get("deny", [])
    if denials is False or denials is None:
        denials = []
    reasons = [str(text) for text in denials] if isinstance(denials, list) else [str(denials)]
    allow = value.get("allow") is True and not reasons
    given_reason: Any = value.get("reason")
    text = given_reason if isinstance(given_reason, str) and given_reason else "; ".join(reasons)
    if not allow and not text:
        text = "the policy says no"
    given_rule: Any = value.get("rule")
    code: Any = value.get("code")
    status: Any = value.get("status")
    good_status = isinstance(status, int) and not isinstance(status, bool) and status in _POLICY_STATUS
    return Verdict(
        allow,
        given_rule[:200] if isinstance(given_rule, str) and given_rule else ("deny" if reasons else "decision"),
        text[:300],
        code[:64] if isinstance(code, str) and code.isascii() and code.replace("_", "").isalnum() else "",
        status if good_status and not allow else 0,
    )
