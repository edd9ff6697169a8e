"""10,000 entries at a server and 1,000 workloads of one agent of another host (needs root).

Server and agent are processes of their own that speak over TCP; each workload is a process of a user of its own with an
open stream. Times are from the request to what the workload's process has read.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from typing import Any

from benchmarks.running import memory
from benchmarks.workloads_scale import ENTRIES, FIRST_UID, TTL, WORKLOADS, entry, pid, renewals, row

AFTER_RESTART_S = 5.0


def run() -> list[dict[str, Any]]:
    if os.geteuid() != 0:
        return [{"what": "1,000 workloads of a remote agent", "skipped": "a user for each workload: needs root"}]
    import httpx
    from tests.agent_support import running_agent
    from tests.identity_support import running_identity
    from tests.support import eventually, free_port
    from tests.workload_crowd import crowd

    port = free_port()
    with (
        running_identity([], svid_ttl=TTL, agents=("127.0.0.1", port)) as identity,
        running_agent(identity, port) as (agent, name),
    ):
        for path in (agent.directory, agent.state, agent.state / "run"):
            path.chmod(0o711)
        agent.workload_api.chmod(0o777)
        socket = str(identity.directory / "run" / "admin" / "identity.sock")
        empty = memory(pid(identity)), memory(pid(agent))
        with httpx.Client(transport=httpx.HTTPTransport(uds=socket), timeout=120) as client:

            def apply(entries: list[dict[str, object]]) -> None:
                client.post("http://identity/entries", json={"entries": entries}).raise_for_status()

            apply([entry(f"w{one}", FIRST_UID + one, parent=name) for one in range(WORKLOADS)])
            apply([entry(f"o{one}", FIRST_UID + one) for one in range(ENTRIES - WORKLOADS - 10)])
            with crowd(agent.workload_api, first_uid=FIRST_UID, count=WORKLOADS) as workloads:
                eventually(lambda: workloads.have() == WORKLOADS, within=120)
                full = memory(pid(identity)), memory(pid(agent))
                shared = memory(pid(identity), "Pss"), memory(pid(agent), "Pss")
                waits = []
                for number in range(5):
                    before, began = len(workloads.given[5]), time.monotonic()
                    apply([entry(f"new{number}", FIRST_UID + 5, f"h{number}", name)])
                    eventually(lambda: len(workloads.given[5]) > before, within=30)  # noqa: B023 - asked at once
                    waits.append(workloads.given[5][before][0] - began)
                peak = renewals(workloads)
                gone, asked = _restart(identity, agent, workloads)
    return [
        row("memory of server, agent: empty", f"{empty[0]:.0f}, {empty[1]:.0f} MB"),
        row(
            f"with {ENTRIES:,} entries and {WORKLOADS:,} workloads",
            f"{full[0]:.0f}, {full[1]:.0f} MB ({shared[0]:.0f}, {shared[1]:.0f} MB of their own share)",
        ),
        row(
            f"one entry to the SVID of a remote workload, {WORKLOADS:,} workloads",
            f"{sorted(waits)[2]:.2f} s (worst {max(waits):.2f} s)",
            "≤ 1 s",
        ),
        row(f"renewals in the fullest second, of {WORKLOADS:,} at {TTL} s", f"{peak}", "spread"),
        row("after kill -9 of the server: workloads that noticed while it was away", f"{gone}", "0"),
        row("SVIDs in the fullest second after it came back", f"{asked}", "no more than before"),
    ]


def _restart(identity: Any, agent: Any, workloads: Any) -> tuple[int, int]:
    """How many workloads' streams ended, and the most SVIDs given in a second afterwards."""
    from tests.support import eventually

    refused = workloads.refused
    identity.stop(signal.SIGKILL)
    identity.start()
    eventually(lambda: agent.status()["server_away_since"] is None, within=60)
    known = {number: len(workloads.given[number]) for number in range(WORKLOADS)}
    time.sleep(AFTER_RESTART_S)
    given = [at for number, first in known.items() for at, _ in workloads.given[number][first:]]
    return workloads.refused - refused, max(Counter(int(at) for at in given).values(), default=0)
