"""How an agent shows who it is, from what `rempart agent run` was told: a way and the names of files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rempart.crypto.x509 import pem_to_ders
from rempart.kernel.errors import BadInput
from rempart.workloads.agents.evidence import Evidence, Possessed, ProjectedToken, ShownToken

MAX_FILE = 1 << 20


def evidence_of(told: Sequence[str]) -> Evidence:
    """`told`: nothing, or ("join_token", FILE or "-"), ("x509pop" | "svid", CERT, KEY), ("k8s", CLUSTER, TOKEN).
    Raises BadInput `unreadable_file`."""
    match list(told):
        case ["k8s", cluster, mounted]:
            return ProjectedToken(cluster, lambda: read(Path(mounted)).decode("utf-8", "replace").strip())
        case [("x509pop" | "svid") as method, certificate, key]:

            def possessed() -> tuple[Sequence[bytes], bytes]:
                return pem_to_ders(read(Path(certificate)).decode("utf-8", "replace")), read(Path(key))

            possessed()  # what is wrong with the files is better said at once
            return Possessed(method, possessed)
        case ["join_token", file]:
            token = sys.stdin.read(1000) if file == "-" else read(Path(file)).decode("utf-8", "replace")
            return ShownToken(token.strip())
    return ShownToken()


def evidence_to_join_again(told: Sequence[str]) -> Evidence:
    """As `evidence_of`, for a process with a user of its own that joined before: files that only root may read don't
    keep it from going on, and it says that it can't join again by itself."""
    try:
        return evidence_of(told)
    except BadInput as error:
        print(f"once this agent's SVID has ended it can't join again by itself: {error}", file=sys.stderr, flush=True)
        return ShownToken()


def read(file: Path) -> bytes:
    """Raises BadInput `unreadable_file`."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise BadInput("unreadable_file", f"{file} can't be read: {error.strerror}", "name a file") from None
    if len(content) > MAX_FILE:
        raise BadInput("unreadable_file", f"{file} is larger than {MAX_FILE} bytes")
    return content
