"""Ask the supervisor over `run/supervisor.sock`: one JSON line each way, one connection per question."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from rempart.kernel.errors import Unavailable

from .model import KINDS, Supervised

WHO_TIMEOUT = 2.0
SIGN_TIMEOUT = 20.0
MAX_ANSWER = 1 << 16


class SupervisorClient:
    def __init__(self, socket_path: Path) -> None:
        self._path = str(socket_path)

    async def who(self, pid: int) -> Supervised | None:
        try:
            answer = await self._ask({"who": pid}, WHO_TIMEOUT)
        except Unavailable:
            return None
        name, kind, start_time = answer.get("name"), answer.get("kind"), answer.get("start_time")
        if not isinstance(name, str) or not isinstance(kind, str) or not isinstance(start_time, int):
            return None
        if kind not in KINDS["supervisor"]:
            return None
        return Supervised(name, kind, start_time)

    async def sign(self, kind: str, request_pem: str) -> str:
        answer = await self._ask({"sign": kind, "csr": request_pem}, SIGN_TIMEOUT)
        certificate = answer.get("certificate")
        if not isinstance(certificate, str):
            raise Unavailable("signing_refused", f"the supervisor did not sign: {str(answer.get('error'))[:300]}")
        return certificate

    async def _ask(self, question: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await asyncio.open_unix_connection(self._path, limit=MAX_ANSWER)
                try:
                    writer.write(json.dumps(question).encode() + b"\n")
                    await writer.drain()
                    answer = json.loads(await reader.readline())
                finally:
                    writer.close()
        except (OSError, ValueError, TimeoutError) as error:
            why = type(error).__name__
            raise Unavailable("supervisor_unavailable", f"the supervisor did not answer: {why}") from None
        if not isinstance(answer, dict):
            raise Unavailable("supervisor_unavailable", "the supervisor's answer makes no sense")
        return answer
