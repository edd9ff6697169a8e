"""Redirect URIs: compared as strings, whole (RFC 9700 section 2.1, RFC 3986 section 6.2.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlencode, urlsplit

MAX_URI = 2000
MAX_PORT = 65535
_LOOPBACK = re.compile(r"(http://(?:127\.0\.0\.1|\[::1\]))(?::([0-9]{1,5}))?((?:[/?].*)?)", re.ASCII)
_CHARACTERS = re.compile(r"[!-~]+", re.ASCII)


def matches(given: str, registered: Iterable[str], *, native: bool) -> bool:
    """Whether `given` is exactly one of `registered`.

    `native` (public clients on a person's own device only): at a loopback address any port will do (RFC 8252
    section 7.3), all the rest must be the same.
    """
    if len(given) > MAX_URI or "#" in given or not _CHARACTERS.fullmatch(given):
        return False
    for uri in registered:
        if given == uri:
            return True
        if native:
            ours, theirs = _LOOPBACK.fullmatch(uri), _LOOPBACK.fullmatch(given)
            if ours and theirs and (ours[1], ours[3]) == (theirs[1], theirs[3]):
                return 0 < int(theirs[2] or 80) <= MAX_PORT
    return False


def with_parameters(uri: str, parameters: Mapping[str, str]) -> str:
    """`uri` with `parameters` behind the query that it has (RFC 6749 section 3.1.2)."""
    if not parameters:
        return uri
    joint = "" if uri.endswith(("?", "&")) else "&" if "?" in uri else "?"
    return uri + joint + urlencode(parameters)


def source_of(uri: str) -> str:
    """As a CSP source: scheme, host and port, or the scheme alone where there is no host."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else f"{parts.scheme}:"


def host_of(uri: str) -> str:
    """For people to read: where an answer goes to."""
    try:
        parts = urlsplit(uri)
        return parts.hostname or parts.scheme
    except ValueError:
        return ""
