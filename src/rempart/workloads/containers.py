"""Which container a process is in, from its cgroups: as Docker, containerd, CRI-O and the kubelet name them, v1 and v2.

A name in the path is believed only where root made it: below `user@UID.service` a user names cgroups as it likes.
Several containers in one path (one inside another) or in several hierarchies mean that it can't be told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_POD = re.compile(r"pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12})(?![0-9a-f])")
_DELEGATED = re.compile(r"user(-[0-9]+\.slice|@[0-9]+\.service)")


@dataclass(frozen=True, slots=True)
class Container:
    """`pod` is the pod's uid; empty outside Kubernetes."""

    id: str
    pod: str


def container_in(cgroups: Iterable[str]) -> Container | None:
    """`cgroups`: the paths of /proc/PID/cgroup, one of each hierarchy."""
    found = {container for path in cgroups if (container := _in(path)) is not None}
    return found.pop() if len(found) == 1 else None


def _in(path: str) -> Container | None:
    parts = path.split("/")
    if any(_DELEGATED.fullmatch(part) for part in parts) or ".." in parts:
        return None
    ids = set(_ID.findall(path))
    pods = {pod.replace("_", "-") for pod in _POD.findall(path)}
    if len(ids) != 1 or len(pods) > 1:
        return None
    return Container(ids.pop(), pods.pop() if pods else "")
