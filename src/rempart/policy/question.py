"""A question of Envoy's, read at once where it is of the one form that Envoy nearly always writes.

Most of what parsing a message of HTTP costs here is a call back into Python for each header. Envoy writes a question
with one system call, whole, without a body, and with headers that the mesh's configuration names. That form is known
by four comparisons and taken apart by `split`; whatever differs in anything is left to the real parser (`None`), so
this reads nothing that httptools would read otherwise (tests/unit/policy/test_question.py asks both).
"""

from __future__ import annotations

import re

# What mesh.headers.TO_PDP lets through and what Envoy adds; any other name is left to the parser.
_NAMES = frozenset(
    b"host content-length authorization dpop origin user-agent traceparent x-request-id x-rempart-claims"
    b" x-rempart-peer x-rempart-ip x-rempart-certificate x-envoy-internal x-envoy-expected-rq-timeout-ms"
    b" x-forwarded-for".split()
)
_METHODS = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}
_TARGET = re.compile(rb"/[\x21-\x7e]*")
_TEXT = bytes(code for code in range(256) if 0x20 <= code != 0x7F)  # RFC 9110 section 5.5, the tab left out
_LINE = b"\r\n"


def plain(data: bytes, most: int) -> tuple[str, bytes, list[tuple[bytes, bytes]]] | None:
    """Method, target and headers of a whole request without a body, after which the connection stays open.

    `data` must begin where a message may begin; `most` is the number of headers that are accepted.
    """
    if data[-4:] != b"\r\n\r\n":
        return None
    first, *lines = data[:-4].split(_LINE)
    # No control character but the ends of lines, and those only in pairs.
    if len(lines) > most or data.translate(None, _TEXT) != _LINE * (len(lines) + 2):
        return None
    words = first.split(b" ")
    if len(words) != 3 or words[2] != b"HTTP/1.1":
        return None
    method = _METHODS.get(words[0])
    if method is None or not _TARGET.fullmatch(words[1]):
        return None
    headers = []
    for line in lines:
        name, _, value = line.partition(b": ")
        if name not in _NAMES or not value or value[0] == 32 or value[-1] == 32:
            return None
        if name == b"content-length" and value != b"0":
            return None
        headers.append((name, value))
    return method, words[1], headers
