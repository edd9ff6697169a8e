"""A witness over HTTP (c2sp.org/tlog-witness): `POST URL/add-checkpoint`. Untrusted: its cosignature is checked."""

from __future__ import annotations

import asyncio

from rempart.audit.witness import SizeConflict
from rempart.kernel.errors import BadInput, Unavailable, Unprocessable

_LARGEST = 16 << 10
_WITHIN = 5.0  # seconds, for all of it


class HttpWitness:
    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/") + "/add-checkpoint"

    async def add_checkpoint(self, body: bytes) -> str:
        """The sequencer asks: whoever answers slowly, without end or packed must not hold or fill it."""
        import httpx  # 7 MB that a log without witnesses doesn't need

        found = bytearray()
        try:
            async with (
                asyncio.timeout(_WITHIN),
                httpx.AsyncClient(timeout=_WITHIN, follow_redirects=False, trust_env=False) as client,
                client.stream("POST", self._url, content=body, headers={"accept-encoding": "identity"}) as answer,
            ):
                async for part in answer.aiter_raw():
                    found += part
                    if len(found) > _LARGEST:
                        raise BadInput("bad_witness", f"{self._url} answers with more than {_LARGEST} bytes")
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError) as error:
            raise Unavailable("witness_unavailable", f"{self._url}: {type(error).__name__}") from None
        text = found.decode("utf-8", "replace")
        if answer.status_code == 200:
            return text
        if answer.status_code == 409:
            size = text.strip()
            is_size = size.isascii() and size.isdigit() and len(size) <= 18
            if answer.headers.get("content-type", "") != "text/x.tlog.size" or not is_size:
                raise BadInput("bad_witness", f"{self._url} answered a conflict without a size")
            raise SizeConflict(int(size), f"{self._url} knows {int(size)} events")
        if answer.status_code == 422:
            raise Unprocessable("bad_consistency", f"{self._url} was not convinced that the log only grew")
        raise Unavailable("witness_unavailable", f"{self._url} answered {answer.status_code}")
