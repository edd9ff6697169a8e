"""Two supervisors of one host must not choose the same port between looking whether it is free and listening on it.

A claim is the name of an abstract unix socket (unix(7)), which the kernel gives to one process at a time and takes back
when that one ends. It keeps honest supervisors apart and protects from nobody else.
"""

from __future__ import annotations

import socket

from rempart.wiring.ports import is_free


class PortClaims:
    """Somebody has to hold its descriptors as long as the ports are used."""

    def __init__(self) -> None:
        self._held: dict[int, socket.socket] = {}

    @property
    def descriptors(self) -> tuple[int, ...]:
        return tuple(claim.fileno() for claim in self._held.values())

    def free(self, host: str, port: int) -> bool:
        """Free, and from now on claimed."""
        if port not in self._held:
            claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                claim.bind(f"\0rempart-port-{port}")
            except OSError:
                claim.close()
                return False
            self._held[port] = claim
        if is_free(host, port):
            return True
        self._held.pop(port).close()
        return False
