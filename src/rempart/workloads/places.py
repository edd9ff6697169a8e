"""Which connections stand, and which gives way when there are too many.

Of a uid that has its fill, the process with the most connections that haven't asked for anything loses its oldest one
of those: a flood from one process pushes out its own connections, and not that of another process of the same uid
between connect(2) and its first request. Where the server is full, the uid with the most connections pays.
Finding the process looks at each of one uid's once, of which there are no more than its connections. One event loop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Protocol

from .process import Process


class Connection(Protocol):
    """Hashed by what it is, not by what it says."""

    @property
    def process(self) -> Process:
        """The peer."""

    def abort(self) -> None:
        """End it without a word."""


class Places:
    """`most` connections in all, `per_uid` of one uid; both may be changed later, for those that come then."""

    def __init__(self, most: int, per_uid: int) -> None:
        self.most, self.per_uid = most, per_uid
        self._standing: dict[Connection, None] = {}
        self._by_uid: Counter[int] = Counter()
        self._silent: dict[int, dict[int, dict[Connection, None]]] = {}
        """By uid and pid, those that have asked for nothing yet, oldest first."""

    def __len__(self) -> int:
        return len(self._standing)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._standing))

    def take(self, connection: Connection) -> bool:
        """Count it in, ending another one for it where there are too many; False when there is no room."""
        uid = connection.process.uid
        if self._by_uid[uid] >= self.per_uid and not self._give_way(uid):
            return False
        if len(self) >= self.most and not self._give_way(self._by_uid.most_common(1)[0][0]):
            return False
        self._standing[connection] = None
        self._by_uid[uid] += 1
        self._silent.setdefault(uid, {}).setdefault(connection.process.pid, {})[connection] = None
        return True

    def asked(self, connection: Connection) -> None:
        """It sent a request, and keeps its place from now on."""
        uid, pid = connection.process.uid, connection.process.pid
        processes = self._silent.get(uid, {})
        if connection in (silent := processes.get(pid, {})):
            del silent[connection]
            if not silent:
                del processes[pid]
            if not processes:
                del self._silent[uid]

    def leave(self, connection: Connection) -> None:
        """It is over; more than once does no harm."""
        if connection in self._standing:
            self.asked(connection)
            del self._standing[connection]
            uid = connection.process.uid
            self._by_uid[uid] -= 1
            if not self._by_uid[uid]:
                del self._by_uid[uid]

    def _give_way(self, uid: int) -> bool:
        if not (processes := self._silent.get(uid)):
            return False
        most = max(processes, key=lambda pid: len(processes[pid]))
        connection = next(iter(processes[most]))
        self.leave(connection)
        connection.abort()
        return True
