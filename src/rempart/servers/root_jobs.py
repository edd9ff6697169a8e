"""What needs a root's private key is done by a process of its own, which ends with it: `root_signer.py`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from rempart.kernel.errors import Unavailable
from rempart.workloads.root_rotation import NewRoot

from .root_signer import Make, Sign
from .root_store import Signer
from .spawn import Child, Launch, spawn

WITHIN = 10.0
_MOST = 1 << 16
"""Bytes of an answer: what fits into a pipe that nobody reads yet."""


class RootJobs:
    """`launch` says how the process is to be started; `running` are the pids of those that run. One event loop."""

    def __init__(self, launch: Callable[[], Launch], log: Path, trust_domain: str, sealing_key: bytes) -> None:
        self._launch, self._log, self._trust_domain, self._key = launch, log, trust_domain, sealing_key
        self.running: set[int] = set()

    async def make(self, kind: str) -> NewRoot:
        """A new root. Raises Unavailable `signing_failed`."""
        answer = await self._ask(Make(kind=kind, trust_domain=self._trust_domain, key=self._key))
        try:
            return msgspec.json.decode(answer, type=NewRoot)
        except msgspec.DecodeError:
            raise _failed("with something else than a root") from None

    async def sign(self, kind: str, csr: str, signer: Signer, *, ttl: float, names: tuple[str, ...]) -> str:
        """The certificate (PEM) of an issuing CA, and `signer.chain`. Raises Unavailable `signing_failed`."""
        job = Sign(
            kind=kind,
            trust_domain=self._trust_domain,
            root=signer.certificate,
            sealed=signer.sealed,
            key=b"" if signer.upstream_key else self._key,
            upstream_key=signer.upstream_key,
            csr=csr,
            ttl=ttl,
            names=names if kind == "web" else (),
        )
        return (await self._ask(job)).decode() + signer.chain

    async def _ask(self, job: Sign | Make) -> bytes:
        child, output = self._start(msgspec.json.encode(job))
        try:
            async with asyncio.timeout(WITHIN):
                status = await asyncio.shield(child.exited)
        except TimeoutError:
            child.kill()
            status = await asyncio.shield(child.exited)
        finally:
            self.running.discard(child.pid)
            answer = os.read(output, _MOST)
            os.close(output)
        if status != 0 or not answer:
            raise _failed(f"with {status}")
        return answer

    def _start(self, job: bytes) -> tuple[Child, int]:
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        source, sink = os.pipe()
        output, result = os.pipe()
        try:
            os.set_blocking(output, False)
            os.write(sink, job)
            child = spawn(self._launch(), stdin=source, stdout=result, stderr=log)
            self.running.add(child.pid)
        except BaseException:
            os.close(output)
            raise
        finally:
            for fd in (log, source, sink, result):
                os.close(fd)
        return child, output


def _failed(how: str) -> Unavailable:
    return Unavailable("signing_failed", f"the root signer ended {how}", "see `rempart logs root-signer`")
