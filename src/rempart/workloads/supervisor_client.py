"""Ask the supervisor over `run/supervisor.sock`: one JSON line each way, one connection per question."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rempart.crypto.x509 import Certificate, pem_to_ders
from rempart.kernel.errors import BadInput, Unavailable

from .model import KINDS, Selector, Told, ToldRoots

WHO_TIMEOUT = 2.0
HASH_TIMEOUT = 10.0
SIGN_TIMEOUT = 20.0
MAX_ANSWER = 1 << 16


class SupervisorClient:
    def __init__(self, socket_path: Path) -> None:
        self._path = str(socket_path)

    async def who(self, pid: int, *, hash_program: bool = False) -> Told | None:
        question = {"who": pid, "hash": True} if hash_program else {"who": pid}
        try:
            answer = await self._ask(question, HASH_TIMEOUT if hash_program else WHO_TIMEOUT)
        except Unavailable:
            return None
        return told(answer)

    async def roots(self, kind: str, published: Sequence[str]) -> ToldRoots:
        answer = await self._ask({"roots": kind, "published": list(published)}, WHO_TIMEOUT)
        try:
            roots = tuple(Certificate.parse(der) for der in pem_to_ders(answer["roots"]))
            rotation = {name: answer[name] for name in ("phase", "activate_at", "retire_at")}
            told = ToldRoots(roots, str(answer["signing"]), rotation)
        except (KeyError, TypeError, AttributeError, BadInput):
            raise Unavailable("supervisor_unavailable", "the supervisor did not say what its roots are") from None
        if told.signing not in {root.fingerprint for root in roots}:
            raise Unavailable("supervisor_unavailable", "the supervisor's answer makes no sense")
        return told

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


def told(answer: dict[str, Any]) -> Told | None:
    """Of an answer to `who`; what isn't well formed in it is as if it hadn't been said."""
    name, kind, start_time = answer.get("name"), answer.get("kind"), answer.get("start_time")
    if not isinstance(start_time, int):
        return None
    if not isinstance(name, str) or not isinstance(kind, str) or kind not in KINDS["supervisor"]:
        name = kind = ""
    program = answer.get("program")
    if not isinstance(program, list) or len(program) != 2 or not all(isinstance(number, int) for number in program):
        return Told(name, kind, start_time)
    path, digest = _value("path", answer.get("exe")), _value("sha256", answer.get("sha256"))
    return Told(name, kind, start_time, (program[0], program[1]), path, digest)


def _value(kind: str, value: object) -> str | None:
    if not isinstance(value, str):
        return None
    try:
        return Selector.parse(f"unix:{kind}:{value}").value
    except BadInput:
        return None
