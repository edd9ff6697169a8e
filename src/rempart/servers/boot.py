"""What a process is given when it starts, and nothing else: its name, directories, settings, keys and sockets.

The supervisor binds every listening socket itself, sets its owner and mode, and hands the open file descriptor over
(as systemd's socket activation does, sd_listen_fds(3)). So a process that restarts finds its clients still queued, and
no process can create a socket in another one's place. Settings and keys come as one JSON document in a memory file
(memfd) that is closed once read: never in arguments, in the environment or on disk.
"""

from __future__ import annotations

import gc
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from rempart.kernel.errors import BadInput

T = TypeVar("T")


@dataclass(frozen=True)
class Boot:
    """`data_dir` is this process's own, `journal_dir` holds the journal of its events, `run_dir` the sockets.

    `sockets` maps a name (`api`, `admin`, `pep:wallet`) to a listening socket. `keys` maps a purpose to 32 bytes.
    """

    name: str
    data_dir: Path
    journal_dir: Path
    run_dir: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    keys: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    sockets: Mapping[str, socket.socket] = field(default_factory=dict)
    ready_fd: int | None = None
    tracing: Mapping[str, Any] | None = None  # where spans go; None: nothing is traced

    @staticmethod
    def from_environment() -> Boot:
        """Read what the supervisor left: `REMPART_BOOT_FD`, `LISTEN_FDS`, `LISTEN_FDNAMES`, `REMPART_READY_FD`."""
        try:
            boot_fd = int(os.environ.pop("REMPART_BOOT_FD"))
            ready_fd = int(os.environ.pop("REMPART_READY_FD"))
        except (KeyError, ValueError):
            raise BadInput(
                "not_supervised", "this process was not started by the supervisor", "run `rempart up`"
            ) from None
        with os.fdopen(boot_fd, "rb") as memory:
            memory.seek(0)
            document = json.loads(memory.read())
        names = [n for n in os.environ.pop("LISTEN_FDNAMES", "").split(",") if n]
        os.environ.pop("LISTEN_FDS", None)
        sockets = {}
        for offset, name in enumerate(names):
            sockets[name] = socket.socket(fileno=3 + offset)
            sockets[name].set_inheritable(False)
            sockets[name].setblocking(False)
        os.set_inheritable(ready_fd, False)
        return Boot(
            name=document["name"],
            data_dir=Path(document["data_dir"]),
            journal_dir=Path(document["journal_dir"]),
            run_dir=Path(document["run_dir"]),
            settings=document["settings"],
            keys={purpose: bytes.fromhex(key) for purpose, key in document["keys"].items()},
            sockets=sockets,
            ready_fd=ready_fd,
            tracing=document.get("tracing"),
        )

    def read_settings(self, kind: type[T]) -> T:
        """Raises BadInput `bad_settings`."""
        try:
            return msgspec.convert(dict(self.settings), kind)
        except msgspec.ValidationError as error:
            raise BadInput(
                "bad_settings", f"the settings of {self.name}: {error}", "start it with `rempart up`"
            ) from None

    def ready(self) -> None:
        """Tell the supervisor that the sockets are being served; at most once.

        What was loaded until now stays: the collector doesn't walk it during requests any more, which takes 15 ms. Nor
        does it walk some hundred open requests every few thousand objects: they leave few cycles behind.
        """
        gc.set_threshold(20_000, 20, 20)
        gc.freeze()
        if self.ready_fd is not None:
            os.write(self.ready_fd, b"1")
            os.close(self.ready_fd)
            object.__setattr__(self, "ready_fd", None)
