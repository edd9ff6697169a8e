"""Try a policy out in a process of its own: one that crashes the engine, or never ends, harms nobody.

`python -m rempart.backends.regorus_trial` reads a bundle on stdin and writes its report on stdout.
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess  # nosec B404 - starts this interpreter on this module only
import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from rempart.policy import bundle as bundles
from rempart.policy.model import Bundle, Fault, Report

SECONDS = 20
MEMORY_BYTES = 2 << 30
_COMMAND = [sys.executable, "-m", "rempart.backends.regorus_trial"]


class RegorusTrial:
    """Implements `policy.ports.Trial`."""

    async def run(self, bundle: Bundle, given: Mapping[str, Any]) -> Report:
        process = await asyncio.create_subprocess_exec(
            *_COMMAND,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(SECONDS):
                output, _ = await process.communicate(_question(bundle, given))
        except TimeoutError:
            process.kill()
            await process.wait()
            return _too_long(bundle)
        return _report(bundle, process.returncode or 0, output)

    def run_now(self, bundle: Bundle, given: Mapping[str, Any]) -> Report:
        """The same for commands, blocking."""
        try:
            done = subprocess.run(  # nosec B603 - no shell, no outside words
                _COMMAND, input=_question(bundle, given), capture_output=True, timeout=SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return _too_long(bundle)
        return _report(bundle, done.returncode, done.stdout)


def _question(bundle: Bundle, given: Mapping[str, Any]) -> bytes:
    return json.dumps({"bundle": json.loads(bundles.dump(bundle)), "given": given}).encode()


def _too_long(bundle: Bundle) -> Report:
    return Report(faults=(Fault(bundle.entrypoint, 0, 0, f"checking it took more than {SECONDS} s"),))


def _report(bundle: Bundle, returncode: int, output: bytes) -> Report:
    if returncode == 0:
        try:
            return msgspec.json.decode(output, type=Report)
        except msgspec.DecodeError:
            returncode = -1
    how = f"signal {-returncode}" if returncode < 0 else f"exit code {returncode}"
    return Report(faults=(Fault(bundle.entrypoint, 0, 0, f"the policy engine crashed on it ({how})"),))


def main() -> None:
    from .regorus_engine import RegorusEngine

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    question = json.loads(sys.stdin.buffer.read())
    report = RegorusEngine().inspect(bundles.load(json.dumps(question["bundle"]).encode()), question["given"])
    sys.stdout.buffer.write(msgspec.json.encode(report))


if __name__ == "__main__":
    main()
