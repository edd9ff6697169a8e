"""What the PDP of an agent's host follows, as the server tells it: the policy in force, and whose tokens are over.

Neither is made up here. While the server is away the PDP decides by the policy it has; it hears no more of people's
sessions, and after `policy.epochs.GRACE` refuses those who administer others, as on the gateway's host.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import shutil
import socket
import sys
from pathlib import Path, PurePosixPath

from rempart.kernel.durable_file import replace_file
from rempart.kernel.errors import BadInput, RempartError, Unavailable
from rempart.policy.bundle import BASE_PATH, load
from rempart.workloads.ports import ServerConnection

ASK_WITHIN = 40.0
EPOCHS_WITHIN = 12.0
_RETRY = (0.5, 15.0)
_MAX_POSITION = 4096


class PolicyCopy:
    """`directory` is a link to the files of the policy told last, replaced as a whole."""

    def __init__(self, directory: Path, server: ServerConnection) -> None:
        self._directory, self._server = directory, server

    async def keep_current(self) -> None:
        """For ever; what fails is tried again, and said once."""
        wait = _RETRY[0]
        while True:
            try:
                await self.ask()
                wait = _RETRY[0]
            except (OSError, RempartError) as error:
                if wait == _RETRY[0]:
                    print(f"host-agent: the policy is not followed: {error}", file=sys.stderr, flush=True)
                await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # nosec B311 - jitter, no secret
                wait = min(wait * 2, _RETRY[1])

    async def ask(self, *, hold: bool = True) -> None:
        """Ask for another policy than the one there is (`hold`: wait for one), and put it in place. Raises as
        `ServerConnection.ask`, BadInput `bad_policy`, OSError."""
        seen = self._directory.resolve().name.removeprefix("v-") if self._directory.exists() and hold else ""
        told = await self._server.ask("GET", f"/v1/policy?seen={seen}", within_s=ASK_WITHIN)
        if told:
            await asyncio.to_thread(write_policy, self._directory, told)


def write_policy(directory: Path, told: bytes) -> None:
    """`told` as `policy.bundle.dump` wrote it. Whole when it returns, or as before; whoever reads sees the one or the
    other. Raises BadInput `bad_policy`, OSError."""
    bundle = load(told)
    whole = directory.with_name(f"v-{hashlib.sha256(told).hexdigest()}")
    new = directory.with_name(".v.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o750)
    for file in bundle.files:
        if file.path == BASE_PATH:
            continue  # it comes with this installation
        name = PurePosixPath(file.path)
        if name.is_absolute() or ".." in name.parts or name.suffix != ".rego":
            raise BadInput("bad_policy", f"the policy has a file named {file.path[:80]!r}", "see who is the server")
        path = new / name
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        replace_file(path, file.text.encode(), 0o640)
    replace_file(new / "data.json", json.dumps(bundle.data).encode(), 0o640)
    if not whole.exists():
        new.rename(whole)
    link = directory.with_name(".current.new")
    link.unlink(missing_ok=True)
    link.symlink_to(whole.name)
    os.replace(link, directory)
    for old in (*directory.parent.glob("v-*"), new):
        if old != whole:
            shutil.rmtree(old, ignore_errors=True)


class EpochRelay:
    """The server's word as people's own socket has it (`people/administration/epoch_feed.py`)."""

    def __init__(self, server: ServerConnection) -> None:
        self._server = server

    async def serve(self, listening: socket.socket) -> None:
        """Until cancelled."""
        async with await asyncio.start_unix_server(self._follow, sock=listening, limit=_MAX_POSITION) as server:
            await server.serve_forever()

    async def _follow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """While the server is away nothing is said: the follower counts the seconds of silence, hangs up, and comes
        again."""
        try:
            position = await reader.readline()
            while not (writer.is_closing() or reader.at_eof()):
                with contextlib.suppress(Unavailable):
                    line = await self._server.ask("POST", "/v1/epochs", position.strip(), within_s=EPOCHS_WITHIN)
                    told = json.loads(line)
                    writer.write(line)
                    await writer.drain()
                    position = json.dumps({"run": told["run"], "seq": told["seq"]}).encode()
                    continue
                await asyncio.sleep(_RETRY[0])
        except (OSError, ValueError, KeyError, TypeError, RempartError):
            pass  # the follower comes again
        finally:
            writer.close()
