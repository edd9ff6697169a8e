"""The kubelet's list of the pods on its node: `GET /pods` (its authenticated port, or the read-only one).

Trusted: who answers here decides which pod a container is. So over https its certificate is verified.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rempart.kernel.errors import Unavailable

from .bounded_http import get_json

MAX_ANSWER = 32 << 20
TIMEOUT = 3.0


class Kubelet:
    """A `PodList`. `token` is read for each question: Kubernetes replaces it every hour."""

    def __init__(self, url: str, *, ca: Path | None, token: Path | None) -> None:
        self._url, self._ca, self._token = url.rstrip("/"), ca, token

    async def pods(self) -> Sequence[Mapping[str, Any]]:
        import ssl

        import httpx

        try:
            headers = {"authorization": f"Bearer {self._token.read_text('ascii').strip()}"} if self._token else {}
            context = ssl.create_default_context(cafile=str(self._ca) if self._ca else None)
        except (OSError, ValueError) as error:
            raise Unavailable("no_answer", f"the kubelet can't be asked: {error}") from None
        transport = httpx.AsyncHTTPTransport(verify=context)
        answer = await get_json(transport, f"{self._url}/pods", within_s=TIMEOUT, most=MAX_ANSWER, headers=headers)
        items = answer.get("items")
        return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
