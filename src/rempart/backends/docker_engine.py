"""The Docker Engine's API on its unix socket; Podman answers the same. Trusted: who owns that socket owns the host."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .bounded_http import get_json

MAX_ANSWER = 1 << 20
TIMEOUT = 2.0


class DockerEngine:
    """A `ContainerEngine`."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def container(self, container_id: str) -> Mapping[str, Any]:
        import httpx

        transport = httpx.AsyncHTTPTransport(uds=str(self._socket))
        url = f"http://docker/containers/{container_id}/json"
        return await get_json(transport, url, within_s=TIMEOUT, most=MAX_ANSWER)
