"""HTTP/1.1 on a unix socket with next to no work of its own, since it runs on the cores that are measured."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

_FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes


class Connection:
    """Kept alive; one request at a time: `send`, then `read`."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))

    def post(self, target: str, body: str, *, content_type: str = _FORM, **headers: str) -> Reply:
        self.send("POST", target, body, content_type=content_type, **headers)
        return self.read()

    def get(self, target: str, **headers: str) -> Reply:
        self.send("GET", target, "", **headers)
        return self.read()

    def send(self, method: str, target: str, body: str, **headers: str) -> None:
        """Header names with underscores for dashes."""
        data = body.encode()
        lines = [f"{method} {target} HTTP/1.1", "host: people"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if data:
            lines.append(f"content-length: {len(data)}")
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode() + data)

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> Reply:
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._more()
        head, _, body = answer.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        while len(body) < length:
            body += self._more()
        return Reply(int(head[9:12]), body)

    def _more(self) -> bytes:
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("closed")
        return data

    def close(self) -> None:
        self._socket.close()
