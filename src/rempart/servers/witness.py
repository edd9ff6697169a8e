"""A witness process of its own, for other people's machines: keeps a key and what it cosigned in one directory."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from rempart.audit.witness import MAX_BODY, SeveralKeys, SizeConflict, Witness
from rempart.crypto.cosigning import Cosigner
from rempart.crypto.signing import NoteVerifier
from rempart.kernel.clock import SystemClock
from rempart.kernel.errors import BadInput, RempartError
from rempart.protocols.asgi_server import AsgiServer
from rempart.sdk.service import listen
from rempart.sdk.workload import Address


def open_cosigner(directory: Path, name: str) -> Cosigner:
    """Its seed is `witness.key` (0600), made at the first start."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / "witness.key"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        seed = path.read_bytes()
        if len(seed) != 32:
            raise BadInput(
                "bad_witness_key", f"{path} is not a key", "restore it, or begin with an empty directory"
            ) from None
    else:
        seed = os.urandom(32)
        with os.fdopen(fd, "wb") as file:
            file.write(seed)
            file.flush()
            os.fsync(fd)
    return Cosigner(name, seed)


def witness_app(witness: Witness) -> Starlette:
    async def add_checkpoint(request: Request) -> Response:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY:
                return PlainTextResponse("the request is too large\n", 400)
        try:
            return PlainTextResponse(witness.add_checkpoint(bytes(body)))
        except SizeConflict as conflict:
            return Response(f"{conflict.size}\n", 409, media_type="text/x.tlog.size")
        except RempartError as error:
            return PlainTextResponse(f"{error.reason}\n", error.status)
        except OSError as error:
            return PlainTextResponse(f"nothing can be kept here: {error.strerror}\n", 503)

    return Starlette(routes=[Route("/add-checkpoint", add_checkpoint, methods=["POST"])])


def _by_origin(keys: Sequence[NoteVerifier]) -> dict[str, SeveralKeys]:
    return {name: SeveralKeys([key for key in keys if key.name == name]) for name in {key.name for key in keys}}


async def serve(directory: Path, name: str, logs: Sequence[NoteVerifier], host: str, port: int) -> None:
    """Until SIGTERM or Ctrl-C; says where it listens and its verifier key, a line each.

    Raises BadInput `bad_address`."""
    cosigner = open_cosigner(directory, name)

    def told(what: str) -> None:
        print(f"witness: ALARM: {what}", file=sys.stderr, flush=True)

    witness = Witness(directory, cosigner, _by_origin(logs), SystemClock(), told)
    listening = listen(Address(host=host.strip("[]"), port=port))
    server, stopping = AsgiServer(witness_app(witness)), asyncio.Event()
    await server.listen(listening)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    print(f"listening on http://{host}:{listening.getsockname()[1]}\n{cosigner.verifier_key}", flush=True)
    await stopping.wait()
    await server.stop()
