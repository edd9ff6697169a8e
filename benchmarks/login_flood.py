"""Wrong logins at a steady pace, whatever comes back: `python -m benchmarks.login_flood SOCKET RATE`, until its input
ends; then it prints how many it sent in how many seconds, and the answers by status, as JSON.

A process of its own: as threads of who measures, it would have that wait for its interpreter's lock. Each attempt comes
from another address at another account.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import sys
import time
from collections import Counter
from pathlib import Path

from benchmarks.unix_http import Connection

GATEWAY = "spiffe://bank.example/rempart/gateway"


def main() -> None:
    path, rate = Path(sys.argv[1]), float(sys.argv[2])
    waiting: dict[int, Connection] = {}
    idle: list[Connection] = []
    answers: Counter[int] = Counter()
    poll = select.poll()
    poll.register(0)
    began = due = time.perf_counter()
    sent = 0
    while True:
        due += 1 / rate
        while (left := due - time.perf_counter()) > 0:
            for fd, _ in poll.poll(left * 1000):
                if fd == 0:
                    document = {"sent": sent, "seconds": time.perf_counter() - began, "answers": answers}
                    print(json.dumps(document), flush=True)
                    os._exit(0)  # hundreds of attempts are open
                connection = waiting.pop(fd)
                poll.unregister(fd)
                answers[connection.read().status] += 1
                idle.append(connection)
        connection = idle.pop() if idle else Connection(path)
        _attempt(connection)
        waiting[connection.fileno()] = connection
        poll.register(connection.fileno(), select.POLLIN)
        sent += 1


def _attempt(connection: Connection) -> None:
    unique = secrets.randbits(24)
    where = f"198.{unique >> 16 & 63}.{unique >> 8 & 255}.{unique & 255}"
    body = json.dumps({"email": f"x{unique}@bank.example", "password": "wrong"})
    connection.send("POST", "/login", body, content_type="application/json", x_forwarded_for=where, x_spiffe_id=GATEWAY)


if __name__ == "__main__":
    main()
