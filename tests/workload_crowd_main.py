"""Many workloads in one small program that `tests.workload_crowd` starts: each a process with a user of its own, on a
stream of the Workload API. Says on stdout `number clock serial-hash` for each SVID it is given, `number clock -` when
refused. Few imports: a thousand of it must fit.

Arguments: socket, first uid, count, the request in hexadecimal, seconds over which they return after a disconnection.
"""

import contextlib
import hashlib
import os
import random
import socket
import struct
import sys
import time

ACK, END = 1, 1


def say(number: int, what: str) -> None:
    os.write(1, f"{number} {time.clock_gettime(time.CLOCK_MONOTONIC):.4f} {what}\n".encode())


def follow(path: str, number: int, request: bytes) -> None:
    """Until the connection ends."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(path)
        peer.sendall(request)
        held = b""
        message = b""
        while True:
            data = peer.recv(1 << 16)
            if not data:
                return
            held += data
            while len(held) >= 9 and len(held) >= 9 + (size := int.from_bytes(held[:3], "big")):
                kind, flags, stream = held[3], held[4], held[5:9]
                body, held = held[9 : 9 + size], held[9 + size :]
                if kind == 4 and not flags & ACK:
                    peer.sendall(b"\0\0\0\4\1\0\0\0\0")
                elif kind == 6 and not flags & ACK:
                    peer.sendall(b"\0\0\x08\6\1\0\0\0\0" + body)
                elif kind == 0:
                    message += body
                    if size:
                        window = struct.pack(">I", size)
                        peer.sendall(b"\0\0\4\x08\0\0\0\0\0" + window + b"\0\0\4\x08\0" + stream + window)
                    while len(message) >= 5 and len(message) >= 5 + (long := int.from_bytes(message[1:5], "big")):
                        say(number, hashlib.sha256(message[5 : 5 + long]).hexdigest()[:12])
                        message = message[5 + long :]
                elif (kind == 1 and flags & END) or kind in (3, 7):
                    say(number, "-")
                    return


def workload(path: str, number: int, uid: int, request: bytes, spread: float) -> None:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    while True:
        with contextlib.suppress(OSError):
            follow(path, number, request)
        time.sleep(random.uniform(0.05, 0.05 + spread))


def main() -> None:
    path, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    request, spread = bytes.fromhex(sys.argv[4]), float(sys.argv[5])
    for number in range(count):
        if os.fork() == 0:
            os.close(0)
            workload(path, number, first + number, request, spread)
    sys.stdin.buffer.read()
    os.killpg(0, 9)


if __name__ == "__main__":
    main()
