"""A witness over HTTP (c2sp.org/tlog-witness): `POST URL/add-checkpoint`. Untrusted: its cosignature is checked."""

from __future__ import annotations

from rempart.audit.witness import SizeConflict
from rempart.kernel.errors import BadInput, Unavailable, Unprocessable

_LARGEST = 64 << 10
_WITHIN = 5.0


class HttpWitness:
    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/") + "/add-checkpoint"

    async def add_checkpoint(self, body: bytes) -> str:
        import httpx  # 7 MB that a log without witnesses doesn't need

        try:
            async with httpx.AsyncClient(timeout=_WITHIN, follow_redirects=False) as client:
                answer = await client.post(self._url, content=body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable("witness_unavailable", f"{self._url}: {type(error).__name__}") from None
        text = answer.text[:_LARGEST]
        if answer.status_code == 200:
            return text
        if answer.status_code == 409:
            size = text.strip()
            if answer.headers.get("content-type", "") != "text/x.tlog.size" or not size.isdigit() or len(size) > 18:
                raise BadInput("bad_witness", f"{self._url} answered a conflict without a size")
            raise SizeConflict(int(size), f"{self._url} knows {int(size)} events")
        if answer.status_code == 422:
            raise Unprocessable("bad_consistency", f"{self._url} was not convinced that the log only grew")
        raise Unavailable("witness_unavailable", f"{self._url} answered {answer.status_code}")
