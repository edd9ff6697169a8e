"""`rempart witness`: cosign other people's audit logs, as long as they only grow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rempart.kernel.errors import BadInput

app = typer.Typer(add_completion=False)


@app.command()
def witness(
    directory: Annotated[Path, typer.Argument(help="Where its key and what it cosigned are kept")],
    log: Annotated[list[Path], typer.Option("--log", help="A log's key (log.vkey); again for others, and its next")],
    name: Annotated[str, typer.Option(help="How its cosignatures are named: a host name of yours")] = "witness.local",
    listen: Annotated[str, typer.Option(help="HOST:PORT; put TLS before it")] = "127.0.0.1:8444",
) -> None:
    """Serve c2sp.org/tlog-witness in the foreground: run it where the log's operator has no power."""
    import asyncio

    from rempart.crypto.signing import NoteVerifier
    from rempart.servers.witness import serve

    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise BadInput("bad_listen", f"{listen!r} is not HOST:PORT", "for instance 127.0.0.1:8444")
    keys = []
    for path in log:
        try:
            keys.append(NoteVerifier.parse(path.read_text("utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput("bad_verifier_key", f"{path} can't be read: {error}", "use the log's log.vkey") from None
    asyncio.run(serve(directory, name, keys, host, int(port)))
