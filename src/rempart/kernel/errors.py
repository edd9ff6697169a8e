"""Every refusal has a stable code, a reason and a remedy.

    RempartError
    ├── BadInput         400 · exit 2   what was given can't be used
    ├── Unauthenticated  401 · exit 1   who is asking isn't proved
    ├── Denied           403 · exit 1   proved, and not allowed
    ├── NotFound         404 · exit 1
    ├── MethodNotAllowed 405 · exit 1
    ├── Conflict         409 · exit 1   the state of things contradicts the request
    ├── Unprocessable    422 · exit 1   well formed, and impossible
    ├── Throttled        429 · exit 1   too often; `retry_after` seconds
    ├── Unavailable      503 · exit 3   something we depend on is down: failed closed
    └── Integrity        500 · exit 1   what was stored isn't what was written

The HTTP status and the exit code are the only two ways an error leaves the system.
"""

from __future__ import annotations

from typing import ClassVar


class RempartError(Exception):
    """`code` is stable and machine-readable, `reason` says what happened, `remedy` what to do about it."""

    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    decision_id: str = ""
    """The decision behind it, where another process told one."""

    def __init__(self, code: str, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.reason} [{self.code}]" + (f"\n  → {self.remedy}" if self.remedy else "")


class BadInput(RempartError):
    status = 400
    exit_code = 2


class Unauthenticated(RempartError):
    status = 401


class Denied(RempartError):
    status = 403


class NotFound(RempartError):
    status = 404


class MethodNotAllowed(RempartError):
    status = 405


class Conflict(RempartError):
    status = 409


class Unprocessable(RempartError):
    status = 422


class Throttled(RempartError):
    status = 429

    def __init__(self, code: str, reason: str, remedy: str = "", *, retry_after: int) -> None:
        super().__init__(code, reason, remedy)
        self.retry_after = retry_after


class Unavailable(RempartError):
    status = 503
    exit_code = 3


class Integrity(RempartError):
    status = 500


OF_STATUS: dict[int, type[RempartError]] = {
    kind.status: kind for kind in (BadInput, Unauthenticated, Denied, NotFound, Conflict, Unprocessable, Unavailable)
}
"""What a problem document's status stands for, where one of our errors has crossed HTTP."""
