"""Reading somebody's log as c2sp.org/tlog-tiles serves it: over HTTP, or from a directory. Nothing of it is trusted."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import httpx

from rempart.kernel.errors import BadInput, Unavailable

_LARGEST = 256 * (2 + 65_535)  # a full bundle of the largest entries
_WITHIN = 120.0  # seconds, for all of an answer
_STALLS = 30.0  # seconds without a byte


class DirectoryLog:
    """Implements `audit.monitor.LogFiles`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def fetch(self, name: str) -> bytes | None:
        try:
            return (self._directory / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise Unavailable("log_unreachable", f"{name}: {error.strerror}") from None


class HttpLog:
    """Implements `audit.monitor.LogFiles`. `url` is the log's prefix; `token` is sent as a bearer token, if any."""

    def __init__(self, url: str, *, token: str = "", ca: Path | None = None) -> None:  # nosec B107 - none
        """Raises BadInput for an address that can't be one, and for a certificate file that can't be read."""
        if not url.startswith(("https://", "http://")):
            raise BadInput("bad_url", f"{url[:80]!r} is no address of a log", "use https://…, or a directory")
        try:
            context = ssl.create_default_context(cafile=str(ca) if ca else None)
        except (OSError, ssl.SSLError) as error:
            raise BadInput("bad_ca", f"{ca} can't be used: {error}", "name a file of PEM certificates") from None
        headers = {"authorization": f"Bearer {token}"} if token else {}
        headers["accept-encoding"] = "identity"
        self._url = url.rstrip("/") + "/"
        self._loop = asyncio.new_event_loop()  # because only so an answer as a whole can be given a time
        self._client = httpx.AsyncClient(
            timeout=_STALLS, follow_redirects=False, trust_env=False, headers=headers, verify=context
        )

    def fetch(self, name: str) -> bytes | None:
        """Whoever would rather not be looked at can't keep the look from ending, nor fill the memory."""
        return self._loop.run_until_complete(self._fetch(name))

    async def _fetch(self, name: str) -> bytes | None:
        body = bytearray()
        try:
            async with asyncio.timeout(_WITHIN), self._client.stream("GET", self._url + name) as answer:
                if answer.status_code == 404:
                    return None
                if answer.status_code != 200:
                    raise Unavailable("log_unreachable", f"{name}: answered {answer.status_code}")
                async for chunk in answer.aiter_raw():
                    body += chunk
                    if len(body) > _LARGEST:
                        raise Unavailable("log_unreachable", f"{name}: more than {_LARGEST} bytes")
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError) as error:
            raise Unavailable("log_unreachable", f"{name}: {type(error).__name__}") from None
        return bytes(body)

    def close(self) -> None:
        self._loop.run_until_complete(self._client.aclose())
        self._loop.close()
