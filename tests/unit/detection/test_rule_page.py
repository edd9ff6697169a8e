"""The documentation says what the rules say, and what the code holds to."""

from __future__ import annotations

from pathlib import Path

from rempart.detection.engine import FLOOD
from rempart.detection.groups import LATE, MAX_GROUPS, MUTE
from rempart.detection.rule_page import documents, written

PAGE = Path(__file__).resolve().parents[3] / "docs" / "detections.md"


def test_the_list_of_rules_is_current() -> None:
    text = PAGE.read_text("utf-8")
    assert written(text) == text, "run `python -m rempart.detection.rule_page`"


def test_the_bounds_are_those_that_are_stated() -> None:
    assert (FLOOD, MAX_GROUPS, LATE, MUTE) == (30, 10_000, 3600, 900)
    text = PAGE.read_text("utf-8")
    for said in ("30 times in an hour", "10,000 groups", "up to an hour late", "a quarter of an hour at least"):
        assert said in text


def test_what_issue_six_asks_for_is_there() -> None:
    assert {one["rule"] for one in documents([])} >= {
        *(
            "brute_force",
            "credential_stuffing",
            "password_spray",
            "mfa_bombing",
            "guessed_codes",
            "refresh_token_reuse",
        ),
        *("session_theft", "impossible_travel", "new_device_new_country", "role_escalation", "dormant_account"),
        *("stolen_session_escalation", "svid_denied", "unusual_call", "policy_deny_burst", "path_scanning"),
        *("rollback_abuse", "refund_abuse", "audit_gap", "clock_went_back", "mass_export", "passkey_counter_back"),
    }
