"""SPIFFE IDs, parsed as the standard says and no more leniently.

Source: SPIFFE-ID standard, sections 2.1 (trust domain), 2.2 (path), 2.3 (maximum length).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from .errors import BadInput

MAX_BYTES = 2048
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_SEGMENT = re.compile(r"[a-zA-Z0-9._-]+")


def parse_trust_domain(text: str) -> str:
    """Return `text` if it names a trust domain; raises BadInput `bad_trust_domain`."""
    if not _TRUST_DOMAIN.fullmatch(text):
        raise BadInput(
            "bad_trust_domain",
            f"{text!r} is not a trust domain",
            "use lower-case letters, digits, dots, dashes and underscores, as in bank.example",
        )
    return text


@dataclass(frozen=True, slots=True)
class SpiffeId:
    """`spiffe://{trust_domain}{path}`; `path` is empty or starts with `/`. Build it with `parse` or `of`."""

    trust_domain: str
    path: str

    @staticmethod
    def parse(text: str) -> SpiffeId:
        """Raises BadInput `bad_spiffe_id`."""
        return _parse(text)

    @staticmethod
    def of(trust_domain: str, *segments: str) -> SpiffeId:
        return _parse("/".join((f"spiffe://{trust_domain}", *segments)))

    def __str__(self) -> str:
        return f"spiffe://{self.trust_domain}{self.path}"


@lru_cache(maxsize=4096)
def _parse(text: str) -> SpiffeId:
    def bad(why: str) -> BadInput:
        return BadInput(
            "bad_spiffe_id", f"{text[:200]!r} is not a SPIFFE ID: {why}", "write spiffe://trust-domain/path"
        )

    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise bad(f"longer than {MAX_BYTES} bytes")
    if not text.startswith("spiffe://"):
        raise bad("the scheme is not spiffe")
    domain, slash, rest = text[9:].partition("/")
    if not _TRUST_DOMAIN.fullmatch(domain):
        raise bad("the trust domain is malformed")
    if slash:
        for segment in rest.split("/"):
            if segment in (".", "..") or not _SEGMENT.fullmatch(segment):
                raise bad("a path segment is empty, relative or has a forbidden character")
    return SpiffeId(domain, slash + rest)
