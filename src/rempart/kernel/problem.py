"""Problem documents (RFC 9457), the body of every HTTP refusal."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

CONTENT_TYPE = "application/problem+json"


def problem(status: int, code: str, detail: str, *, remedy: str = "", decision_id: str = "") -> dict[str, Any]:
    """`{type, title, status, detail, code, decision_id?, remedy?}`; `code` is what programs may rely on."""
    document: dict[str, Any] = {
        "type": f"urn:rempart:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
    }
    if decision_id:
        document["decision_id"] = decision_id
    if remedy:
        document["remedy"] = remedy
    return document
