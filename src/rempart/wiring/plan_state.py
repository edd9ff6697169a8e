"""What of the state directory a plan needs: its directories, and that the paths of sockets are short enough."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rempart.kernel.errors import BadInput

from .plan_mesh import Member
from .plan_model import OPERATOR, Directory, Plan

MAX_SOCKET_PATH = 107  # sun_path holds 108 bytes with the final NUL (unix(7))


def directories(own: Iterable[str], programs: Iterable[str], members: Sequence[Member], reader: str) -> list[Directory]:
    """`own` are Rempart's processes, `members` those with a sidecar here; `reader` is who reads the journals."""
    shared = ("admin", "pep", "svc", "egress", "events", "metrics", "envoy", "feed")
    found = [Directory(path) for path in ("run", *(f"run/{name}" for name in shared))]
    found += [Directory(path) for path in ("data", "envoy", "trust")]
    found.append(Directory("journals", group=reader, mode=0o751))
    found += [Directory(path, mode=0o700) for path in ("secrets", "tls", "logs")]
    for name in own:
        found.append(Directory(f"data/{name}", name, name, 0o700))
        found.append(Directory(f"journals/{name}", name, reader, 0o2770))
    found.append(Directory("journals/supervisor", OPERATOR, reader, 0o2770))
    found += [Directory(f"data/{name}", name, name, 0o700) for name in programs]
    for member in members:
        sidecar = f"{member.name}-sidecar"
        found.append(Directory(f"run/svc/{member.name}", member.name, member.name, 0o2770))
        found.append(Directory(f"run/egress/{member.name}", sidecar, member.name, 0o2750))
        found.append(Directory(f"run/envoy/{member.name}", sidecar, "observer", 0o2750))
    found.append(Directory("run/envoy/gateway", "gateway", "observer", 0o2750))
    return found


def check_lengths(plan: Plan, members: Sequence[Member]) -> None:
    """Raises BadInput `state_path_too_long`."""
    paths = [str(plan.state / socket.path) for process in plan.processes for socket in process.sockets]
    paths += [str(plan.state / process.probe_socket) for process in plan.processes if process.probe_socket]
    paths += [process.address[5:] for process in plan.processes if process.address.startswith("unix:")]
    paths += [f"{plan.state}/run/envoy/{name}/metrics.sock" for name in ("gateway", *(m.name for m in members))]
    paths += [f"{plan.state}/run/egress/{m.name}/{callee}.sock" for m in members for callee in m.calls]
    longest = max(paths, key=lambda path: len(path.encode()))
    if (excess := len(longest.encode()) - MAX_SOCKET_PATH) > 0:
        raise BadInput(
            "state_path_too_long",
            f"{longest} is {excess} bytes longer than the {MAX_SOCKET_PATH} that a unix socket's path may have",
            "choose a shorter --state, as in --state /tmp/rempart",
        )
