"""Masking by field type: what an event may not hold, wherever it came from, is replaced before it is written.

By name: a field that is named as a secret is. By form: what can only be a credential or a payment card is, in any text.
Personal data isn't masked but encrypted for each person (`audit.personal`), so that it can be found and erased.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, quote

MASK = "***"
_DEEPEST = 16
_SECRET_NAME = re.compile(
    r"pass(word|wd|phrase|code)|secret|token|api[_-]?key|private[_-]?key|authorization|cookie|credential|assertion"
    r"|verifier|\botp\b|\bpin\b|\bcvv2?\b|\bcvc\b|card[_-]?number|\bpan\b|signature",
    re.IGNORECASE,
)
_NOT_SECRET = frozenset(("token", "token_failure", "token_type", "tokens", "password_changed"))  # kinds and ids of ours
_JWT = re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*")
_SCHEME = re.compile(r"\b(Bearer|Basic|DPoP)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)
_PEM = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_KEY = re.compile(
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bgh[pousr]_[A-Za-z0-9]{30,}|\bxox[abprs]-[A-Za-z0-9-]{10,}|\bsk_live_\w{16,}"
)
_CARD = re.compile(r"(?<![\w.])(?:\d[ -]?){13,18}\d(?!\w)")


def is_secret(name: str) -> bool:
    """Whether a field of this name holds a secret."""
    return name not in _NOT_SECRET and _SECRET_NAME.search(name) is not None


def mask(value: Any, depth: int = 0) -> Any:
    """`value` (as JSON has it) without secrets: new objects where something was left out."""
    if isinstance(value, str):
        return mask_text(value)
    if depth >= _DEEPEST:
        return MASK if isinstance(value, Mapping | list | tuple) else value  # nobody looks deeper, so nothing is kept
    if isinstance(value, Mapping):
        return {
            name: MASK if is_secret(str(name)) and item not in (None, "") else mask(item, depth + 1)
            for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [mask(item, depth + 1) for item in value]
    return value


def mask_text(text: str) -> str:
    """Free text without credentials; of a payment card its last four digits."""
    if len(text) < 8:
        return text
    text = _PEM.sub(MASK, _JWT.sub(MASK, text))
    text = _KEY.sub(MASK, _SCHEME.sub(lambda found: f"{found[1]} {MASK}", text))
    return _CARD.sub(_card, text)


def mask_target(target: str) -> str:
    """A request's path and query: values of parameters that are named as secrets."""
    path, mark, query = target.partition("?")
    if not mark:
        return mask_text(target)
    pairs = parse_qsl(query, keep_blank_values=True, errors="replace", max_num_fields=None)
    if not any(_is_secret_parameter(name) for name, _ in pairs):
        return mask_text(target)
    shown = "&".join(
        f"{quote(name)}={MASK if _is_secret_parameter(name) else quote(mask_text(value))}" for name, value in pairs
    )
    return f"{mask_text(path)}?{shown}"


def _is_secret_parameter(name: str) -> bool:
    return is_secret(name) or name in ("code", "token")  # an authorization code; as a field of an event a kind


def _card(found: re.Match[str]) -> str:
    digits = [int(d) for d in found[0] if d.isdigit()]
    doubled = [d if n % 2 == 0 else (2 * d - 9 if d > 4 else 2 * d) for n, d in enumerate(reversed(digits))]
    if sum(doubled) % 10:  # ISO/IEC 7812-1 annex B: no card's number
        return found[0]
    return MASK + "".join(map(str, digits[-4:]))
