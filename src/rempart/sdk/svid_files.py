"""SVIDs in files, kept fresh, for programs that only read files. Each file is replaced whole and durably, mode 0600.

A reader that opens `svid.pem` and `key.pem` one after the other may get one from before and one from after a renewal:
it should read again when it is told to (a signal, a command), or read `combined.pem`, which holds both.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from rempart.kernel import strict_json
from rempart.kernel.durable_file import replace_file
from rempart.kernel.errors import BadInput, RempartError, Unavailable

from .spiffe import WorkloadApi, X509Svid

X509_FILES = ("svid.pem", "key.pem", "bundle.pem", "combined.pem")
RETRY = (1.0, 30.0)


def x509_contents(svid: X509Svid) -> dict[str, bytes]:
    """By name. `combined.pem` is the key, then the chain, as HAProxy and curl read them."""
    chain, key = svid.certificate_pem(), svid.private_key_pem()
    contents = (chain, key, svid.bundle_pem(), key + chain)
    return {name: text.encode() for name, text in zip(X509_FILES, contents, strict=True)}


def write_files(directory: Path, contents: dict[str, bytes]) -> None:
    """Into a directory that is ours alone (made if need be). Durable when it returns. Raises BadInput `open_directory`,
    Unavailable `write_failed`; what was not replaced by then is as it was."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.stat()
        if status.st_mode & 0o077 or status.st_uid != os.geteuid():
            raise BadInput(
                "open_directory", f"{directory} is open to others", f"chmod 700 {directory}, or name another"
            )
        for name, content in contents.items():
            replace_file(directory / name, content)
    except OSError as error:
        raise Unavailable("write_failed", f"{directory} can't be written: {error.strerror}", "name another") from None


async def follow_x509(endpoint: str, hint: str = "") -> AsyncIterator[X509Svid | RempartError]:
    """Each X.509-SVID as it comes, the one with this `hint` or the default one, for ever. What fails is given too, and
    tried again, ever more rarely."""
    wait = RETRY[0]
    while True:
        try:
            async with WorkloadApi(endpoint) as api:
                async for svids in api.watch_x509_svids():
                    chosen = next((svid for svid in svids if not hint or svid.hint == hint), None)
                    if chosen is None:
                        raise BadInput("unknown_hint", f"no identity of this process has the hint {hint!r}")
                    wait = RETRY[0]
                    yield chosen
        except RempartError as error:
            yield error
        await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # nosec B311 - jitter, no secret
        wait = min(wait * 2, RETRY[1])


async def follow_jwt(endpoint: str, audience: Sequence[str], spiffe_id: str = "") -> AsyncIterator[str | RempartError]:
    """A JWT-SVID for the audience, and another one at half of each one's life, for ever; failures as above."""
    wait = RETRY[0]
    while True:
        try:
            async with WorkloadApi(endpoint) as api:
                token = (await api.fetch_jwt_svid(audience, spiffe_id)).token
            yield token
            wait = RETRY[0]
            await asyncio.sleep(half_life(token) * random.uniform(0.9, 1.0))  # nosec B311 - jitter, no secret
            continue
        except RempartError as error:
            yield error
        await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # nosec B311 - jitter, no secret
        wait = min(wait * 2, RETRY[1])


def half_life(token: str) -> float:
    """Seconds of a JWT-SVID of our own, which needs no verification; raises BadInput `bad_token`."""
    try:
        part = token.split(".")[1]
        claims = strict_json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        return max((float(claims["exp"]) - float(claims["iat"])) / 2, RETRY[0])
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        raise BadInput("bad_token", "the workload API gave a token without times") from None
