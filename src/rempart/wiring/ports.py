"""Which TCP port each purpose has: remembered from start to start, the next free one when somebody else took it."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

from rempart.kernel.errors import Unavailable

MTLS_FIRST = 15001
EGRESS_FIRST = 16001


def is_free(host: str, port: int) -> bool:
    """Could a server listen there now? A port in TIME_WAIT counts as free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise Unavailable(
                "bad_listen_address", f"can't listen on {host}:{port}: {error.strerror}", "name an address of this host"
            ) from None
    return True


class Ports:
    """`remembered` maps a purpose (`mtls:wallet`) to its port and is updated; not safe for concurrent use."""

    def __init__(
        self, remembered: dict[str, int], taken: set[int] | None = None, free: Callable[[str, int], bool] = is_free
    ) -> None:
        self.remembered = remembered
        self._taken = set(taken or ())
        self._free = free

    def take(self, purpose: str, first: int, host: str = "127.0.0.1") -> int:
        """The remembered port if it is still free, else the first free one from `first` on that nobody remembers."""
        known = self.remembered.get(purpose)
        if known is not None and known not in self._taken and self._free(host, known):
            self._taken.add(known)
            return known
        others = {port for other, port in self.remembered.items() if other != purpose}
        for port in range(first, min(first + 900, 65536)):
            if port not in self._taken and port not in others and self._free(host, port):
                self._taken.add(port)
                self.remembered[purpose] = port
                return port
        raise Unavailable("no_free_port", f"no free port from {first} on for {purpose}", "stop what occupies them")
