"""JSON from strangers: what two parsers could read differently is refused (RFC 8259 section 4, RFC 7493 I-JSON).

Python's parser takes duplicate names (the last wins), NaN and lone surrogates; an attacker uses the difference between
what one component checked and what the next one reads.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from .errors import BadInput

MAX_DEPTH = 32


def loads(data: bytes | str, *, max_depth: int = MAX_DEPTH) -> Any:
    """Raises BadInput `bad_json` and nothing else. Bound the length of `data` before: the cost is linear in it."""
    try:
        text = data if isinstance(data, str) else data.decode("utf-8", "strict")
        value = _decoder.decode(text)
    except RecursionError:
        raise _bad("it is nested too deep") from None
    except UnicodeDecodeError:
        raise _bad("it is not UTF-8") from None
    except ValueError as error:
        raise _bad(str(error)[:200]) from None
    if text.count("[") + text.count("{") > max_depth and _depth_exceeds(value, max_depth):
        raise _bad("it is nested too deep")
    if "\\u" in text and not _encodable(value):
        raise _bad("a string has half of a surrogate pair")
    return value


def _bad(why: str) -> BadInput:
    return BadInput("bad_json", f"this is not acceptable JSON: {why}", "send one JSON value in UTF-8 (RFC 8259)")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member's name is given twice")
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def _depth_exceeds(value: Any, limit: int) -> bool:
    level: list[Any] = [value]
    for _ in range(limit + 1):
        level = [
            child
            for parent in level
            if isinstance(parent, dict | list)
            for child in (parent.values() if isinstance(parent, dict) else parent)
        ]
        if not level:
            return False
    return True


def _encodable(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8", "strict")
    except UnicodeEncodeError:
        return False
    return True
