"""A thousand workloads on one host, and what each of them was given when."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rempart.protocols.spiffe import workload_pb2 as wire


def request() -> bytes:
    """What a client writes to open `FetchX509SVID`."""
    from h2.config import H2Configuration
    from h2.connection import H2Connection

    connection = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
    connection.initiate_connection()
    headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/SpiffeWorkloadAPI/FetchX509SVID"),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("workload.spiffe.io", "true"),
    ]
    connection.send_headers(1, headers)
    body = wire.X509SVIDRequest().SerializeToString()
    connection.send_data(1, b"\0" + len(body).to_bytes(4, "big") + body, end_stream=True)
    return connection.data_to_send()


@dataclass
class Crowd:
    """`given[number]`: (monotonic clock, hash of the message) in their order. A thread of its own writes it."""

    count: int
    given: dict[int, list[tuple[float, str]]] = field(default_factory=lambda: defaultdict(list))
    refused: int = 0

    def have(self, at_least: int = 1) -> int:
        """How many workloads have been given something that often."""
        return sum(len(messages) >= at_least for messages in list(self.given.values()))

    def latest(self) -> dict[int, tuple[float, str]]:
        return {number: messages[-1] for number, messages in list(self.given.items())}

    def read(self, stream: object) -> None:
        for line in stream:  # type: ignore[attr-defined]  # a pipe
            number, at, what = line.split()
            if what == b"-":
                self.refused += 1
            else:
                self.given[int(number)].append((float(at), what.decode()))


@contextlib.contextmanager
def crowd(socket: Path, *, first_uid: int, count: int, spread: float = 1.0) -> Iterator[Crowd]:
    """Processes of the users `first_uid`… (needs root). `spread`: seconds over which they come back when cut off."""
    program = Path(__file__).with_name("workload_crowd_main.py")
    command = [sys.executable, "-I", "-S", str(program), str(socket), str(first_uid), str(count)]
    process = subprocess.Popen(
        [*command, request().hex(), str(spread)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    found = Crowd(count)
    reader = threading.Thread(target=found.read, args=(process.stdout,), daemon=True)
    reader.start()
    try:
        yield found
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(20)
        reader.join(5)
        assert process.stdout is not None
        process.stdout.close()
