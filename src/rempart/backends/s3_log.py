"""`audit.storage.LogStorage` in a bucket of S3 or what speaks as it does. Needs conditional writes (If-Match).

Trusted as the directory would be: who owns the bucket can lose or show an older log, which the sequencer's own copy of
nothing will tell, so watch it (`rempart audit monitor`) and have it witnessed. What it holds is encrypted as far as it
is personal; it is not secret otherwise.

There are no locks in S3. Opening writes the state with a mark of this writer; every later state is written only over
the one with this mark. So a second writer takes over, and the first finds out at its next commit.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit
from xml.etree import ElementTree  # nosec B405 - of an answer that was authenticated by TLS, and bounded

import httpx

from rempart.kernel.errors import BadInput, Integrity, Unavailable

from .aws_signature import Credentials, canonical_path, canonical_query, signed_headers

_AT_ONCE = 8
_WITHIN = 10.0
_LARGEST = 64 << 20
_MARK_BYTES = 16


class S3Log:
    """`endpoint` is `https://HOST[:PORT]`, the bucket is named in the path. `prefix` is empty or ends in a slash."""

    def __init__(self, endpoint: str, bucket: str, prefix: str, credentials: Credentials) -> None:
        """Raises BadInput for a bad address. Nothing is asked yet."""
        parts = urlsplit(endpoint)
        if parts.scheme not in ("https", "http") or not parts.hostname or parts.path not in ("", "/"):
            raise BadInput("bad_endpoint", f"{endpoint!r} is no endpoint of S3", "write https://HOST[:PORT]")
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket):
            raise BadInput("bad_bucket", f"{bucket!r} can't be a bucket", "use 3 to 63 of a-z, 0-9, dot and hyphen")
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._host = parts.netloc
        self._bucket, self._prefix = bucket, prefix
        self._credentials = credentials
        self._client = httpx.Client(timeout=_WITHIN, trust_env=False, follow_redirects=False)
        self._pool = ThreadPoolExecutor(_AT_ONCE, "s3-log")
        self._mark = os.urandom(_MARK_BYTES)
        self._etag = ""  # of the state as it was last read or written; "" when there is none
        self._owned = False

    def __str__(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}"

    def read(self, name: str) -> bytes | None:
        answer = self._ask("GET", name)
        return None if answer.status_code == 404 else answer.content

    def write(self, files: Sequence[tuple[str, bytes]]) -> None:
        for done in [self._pool.submit(self._put_new, name, data) for name, data in files]:
            done.result()

    def delete(self, names: Iterable[str]) -> None:
        for done in [self._pool.submit(self._ask, "DELETE", name) for name in names]:
            done.result()

    def names(self, prefix: str) -> Iterator[str]:
        query = {"list-type": "2", "prefix": self._prefix + prefix}
        while True:
            answer = self._ask("GET", "", query=query, in_bucket=True)
            try:
                tree = ElementTree.fromstring(answer.content)  # nosec B314 - as above
            except ElementTree.ParseError:
                raise Unavailable("log_storage_unavailable", f"{self} answered no listing") from None
            for element in tree.iter():
                if element.tag.rpartition("}")[2] == "Key" and element.text:
                    yield element.text.removeprefix(self._prefix)
            following = [e.text for e in tree.iter() if e.tag.rpartition("}")[2] == "NextContinuationToken"]
            if not following or not following[0]:
                return
            query = {**query, "continuation-token": following[0]}

    def load_state(self) -> bytes | None:
        answer = self._ask("GET", "state")
        if answer.status_code == 404:
            self._etag = ""
            return None
        state, mark = answer.content[:-_MARK_BYTES], answer.content[-_MARK_BYTES:]
        if self._owned and mark != self._mark:
            raise _taken_over(self)
        self._etag = answer.headers["etag"]
        return state

    def save_state(self, state: bytes) -> None:
        condition = {"if-match": self._etag} if self._etag else {"if-none-match": "*"}
        answer = self._ask("PUT", "state", state + self._mark, condition)
        if answer.status_code in (409, 412):
            raise _taken_over(self)
        self._etag = answer.headers["etag"]
        if not self._owned:
            self._owned = True
            self._prove_conditions()

    def replace(self, name: str, data: bytes, *, durable: bool = True) -> None:
        self._ask("PUT", name, data)

    def close(self) -> None:
        self._pool.shutdown()
        self._client.close()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _prove_conditions(self) -> None:
        """A server that ignores If-Match would let two writers destroy the log."""
        answer = self._ask("PUT", "state", b"", {"if-match": '"00000000000000000000000000000000"'})
        if answer.status_code not in (409, 412):
            raise Integrity("storage_unsafe", f"{self} ignores If-Match", "use a server with conditional writes")

    def _put_new(self, name: str, data: bytes) -> None:
        """A name is free, or left over from a commit that failed: of ours, as long as the state is ours."""
        answer = self._ask("PUT", name, data, {"if-none-match": "*"})
        if answer.status_code in (409, 412):
            if self.read(name) == data:
                return
            self.load_state()  # raises when it isn't ours any more
            self._ask("PUT", name, data)

    def _ask(
        self,
        method: str,
        name: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        *,
        in_bucket: bool = False,
    ) -> httpx.Response:
        """2xx, 404, 409 or 412. Raises Unavailable for everything else, tried twice."""
        path = f"/{self._bucket}" if in_bucket else f"/{self._bucket}/{self._prefix}{name}"
        url = self._origin + canonical_path(path) + (f"?{canonical_query(query)}" if query else "")
        why = ""
        for _ in range(2):
            given = {"host": self._host, **(headers or {})}
            signed = signed_headers(self._credentials, method, path, query or {}, given, body, time.time())
            try:
                answer = self._client.request(method, url, content=body or None, headers=signed)
            except httpx.HTTPError as error:
                why = type(error).__name__
                continue
            if answer.is_success or answer.status_code in (404, 409, 412):
                if len(answer.content) > _LARGEST:
                    break
                return answer
            why = f"answered {answer.status_code}"
            if answer.status_code < 500:
                break
        raise Unavailable("log_storage_unavailable", f"{self}: {why}", "see whether the bucket can be written")


def _taken_over(log: S3Log) -> Integrity:
    return Integrity("log_taken_over", f"another sequencer writes {log}", "stop one of them")
