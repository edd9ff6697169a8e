"""The two forms that every part of an Envoy configuration is written in."""

from __future__ import annotations

from typing import Any

from .model import Address

Json = dict[str, Any]


def typed(message: str, /, **fields: Any) -> Json:
    """A protobuf `Any` in JSON: `message` without the leading `type.googleapis.com/envoy.`."""
    return {"@type": f"type.googleapis.com/envoy.{message}", **fields}


def seconds(value: float) -> str:
    """A protobuf Duration in JSON."""
    return f"{value:.3f}s"


def address(where: Address, *, mode: int | None = None) -> Json:
    """`mode` is that of a unix socket that Envoy creates; Envoy removes what lay at its path before."""
    if where.path:
        return {"pipe": {"path": where.path} if mode is None else {"path": where.path, "mode": mode}}
    return {"socket_address": {"address": where.host, "port_value": where.port}}
