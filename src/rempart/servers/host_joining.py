"""Before a host with services starts: its agent joins, and learns how the application is laid out, and the policy."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from rempart.audit.journal import Journal
from rempart.kernel.clock import SystemClock
from rempart.kernel.errors import BadInput, RempartError, Unavailable
from rempart.wiring.plan_hosts import POLICY, Elsewhere
from rempart.wiring.process_workloads import HostSettings
from rempart.wiring.settings import AppSettings

from .agent_evidence import evidence_of
from .agent_parts import agent_parts
from .host_agent import KEPT
from .host_policy import PolicyCopy
from .keys_at_start import process_key
from .state_files import StateDirectory

NAME = "host-agent"
_ASK_WITHIN = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRequest:
    """`bundle` is the SPIFFE bundle (JSON) to trust, "" to trust whoever answers; `evidence` as `agent_evidence`."""

    servers: Sequence[tuple[str, int]]
    bundle: str
    evidence: Sequence[str] = ()


def join_host(request: HostRequest, app: AppSettings, state: StateDirectory, master: bytes) -> Elsewhere:
    """Raises what joining raises, BadInput `no_host` | `other_settings`, Unavailable `server_away`."""
    for name in ("data", f"data/{NAME}", "journals", f"journals/{NAME}", "policy"):
        (state.path / name).mkdir(mode=0o700, exist_ok=True)
    told = asyncio.run(_ask(request, app, state.path, process_key(master, NAME)))
    if os.geteuid() == 0:
        _give(state)
    if told.toml != app.digest:
        raise BadInput(
            "other_settings",
            f"this rempart.toml is not the one that the gateway's host started with ({told.toml[:12]}…)",
            "bring the same file to all hosts, then start again",
        )
    again = tuple(request.evidence) if request.evidence[:1] != ["join_token"] else ()
    return Elsewhere(told, tuple(request.servers), again)


async def _ask(request: HostRequest, app: AppSettings, state: Path, seal_key: bytes) -> HostSettings:
    directory = state / "data" / NAME
    journal = Journal(state / "journals" / NAME, NAME)
    evidence = evidence_of(request.evidence)
    parts = agent_parts(
        app.trust_domain,
        request.servers,
        evidence,
        kept=directory / KEPT,
        seal_key=seal_key,
        journal=journal,
        clock=SystemClock(),
    )
    try:
        await parts.membership.begin(request.bundle)
        answer = await parts.membership.ask("/v1/host", within_s=_ASK_WITHIN)
        if app.policy_dir:
            await PolicyCopy(state / POLICY, parts.server).ask(hold=False)
    except RempartError as error:
        if error.code == "no_host":
            raise BadInput("no_host", error.reason, error.remedy) from None
        raise
    finally:
        await parts.server.close()
        journal.close()
    try:
        return msgspec.json.decode(answer, type=HostSettings)
    except msgspec.DecodeError:
        raise Unavailable("bad_answer", "the server's answer makes no sense", "see that both are one version") from None


def _give(state: StateDirectory) -> None:
    """To the user that the agent will run as."""
    uid, pdp = state.uid(NAME), state.uid("pdp")
    tops = {f"data/{NAME}": uid, f"journals/{NAME}": uid, "policy": pdp}
    for top, gid in ((state.path / name, gid) for name, gid in tops.items()):
        for directory, names, files in os.walk(top):
            for path in (directory, *(os.path.join(directory, name) for name in (*names, *files))):
                with contextlib.suppress(FileNotFoundError):
                    os.chown(path, uid, gid, follow_symlinks=False)
