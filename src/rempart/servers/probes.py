"""Is a process ready, is it alive? One small HTTP request, or one connection."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from rempart.wiring.plan_model import Probe, Process

_LINE = 1 << 16
_ASK_JWKS = b"GET /stats?filter=jwks_fetch_success HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_JWKS_FETCHED = re.compile(rb"jwks_fetch_success: (\d+)")


async def http_status(address: str, path: str, timeout_s: float) -> int | None:
    """GET `path` at `unix:/path` or `host:port`: the status, or None when nothing answered HTTP in time."""
    writer = None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await _connect(address)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
            words = (await reader.readline()).split()
            return int(words[1]) if len(words) > 1 and words[0].startswith(b"HTTP/") else None
    except (OSError, ValueError, TimeoutError, asyncio.LimitOverrunError):
        return None
    finally:
        if writer is not None:
            writer.close()


async def has_token_keys(process: Process, state: Path, timeout_s: float = 1.0) -> bool:
    """Has this Envoy fetched the keys that tokens are verified with? True for one that verifies none."""
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_unix_connection(str(state / process.probe_socket))
            writer.write(_ASK_JWKS)
            counters = _JWKS_FETCHED.findall(await reader.read())
            writer.close()
    except (OSError, TimeoutError):
        return False
    return not counters or any(int(counter) for counter in counters)


async def accepts(address: str, timeout_s: float) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await _connect(address)
            writer.close()
            return True
    except (OSError, TimeoutError):
        return False


async def _connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if address.startswith("unix:"):
        return await asyncio.open_unix_connection(address[5:], limit=_LINE)
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host, int(port), limit=_LINE)


async def is_ready(process: Process, state: Path, timeout_s: float = 1.0) -> bool:
    """For processes that can't tell by themselves: Envoys and the application's services."""
    if process.probe is Probe.ENVOY:
        return await http_status(f"unix:{state / process.probe_socket}", "/ready", timeout_s) == 200
    if process.probe is Probe.SERVICE:
        if process.health:
            status = await http_status(process.address, process.health, timeout_s)
            return status is not None and status < 400
        return await accepts(process.address, timeout_s)
    return True


async def is_alive(process: Process, state: Path, timeout_s: float) -> bool:
    """Any answer will do: this is about a process that hangs, not about one that is unhappy."""
    if process.probe in (Probe.ENVOY, Probe.BOOT):
        path = "/ready" if process.probe is Probe.ENVOY else "/healthz"
        return await http_status(f"unix:{state / process.probe_socket}", path, timeout_s) is not None
    if process.probe is Probe.SERVICE:
        if process.health:
            return await http_status(process.address, process.health, timeout_s) is not None
        return await accepts(process.address, timeout_s)
    return True
