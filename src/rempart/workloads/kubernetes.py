"""Facts of a container in a pod, as selectors of SPIRE's k8s attestor, out of the kubelet's list of pods (core/v1).

A container that has just started may not be in the list yet, so it is asked for again for a moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from rempart.kernel.errors import RempartError

from .containers import Container
from .docker import selectors_of
from .model import Selector
from .ports import PodList

ATTEMPTS = 6
PAUSE = 0.5
_STATUSES = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")


class KubernetesFacts:
    """A `ContainerFacts`. Callers that ask at the same time share one question to the kubelet."""

    type = "k8s"

    def __init__(self, pods: PodList, *, pause: float = PAUSE) -> None:
        self._pods, self._pause = pods, pause
        self._asking: asyncio.Task[Sequence[Mapping[str, Any]]] | None = None

    async def of(self, container: Container) -> set[Selector]:
        if not container.pod:
            return set()
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(self._pause)
            try:
                found = pod_selectors(await self._list(), container)
            except RempartError:
                return set()
            if found:
                return found
        return set()

    async def _list(self) -> Sequence[Mapping[str, Any]]:
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._pods.pods())
        return await asyncio.shield(self._asking)


def pod_selectors(pods: Sequence[Mapping[str, Any]], container: Container) -> set[Selector]:
    """Nothing where the container is in no pod, in another one than its cgroup says, or in several."""
    found = [
        (pod, status)
        for pod in pods
        if _at(pod, "metadata", "uid") == container.pod
        for status in _statuses(pod, *_STATUSES)
        if str(status.get("containerID", "")).partition("://")[2] == container.id
    ]
    if len(found) != 1:
        return set()
    pod, status = found[0]
    regular, init = _statuses(pod, "containerStatuses"), _statuses(pod, "initContainerStatuses")
    wanted: list[tuple[str, object]] = [
        ("ns", _at(pod, "metadata", "namespace")),
        ("sa", _at(pod, "spec", "serviceAccountName")),
        ("node-name", _at(pod, "spec", "nodeName")),
        ("pod-uid", _at(pod, "metadata", "uid")),
        ("pod-name", _at(pod, "metadata", "name")),
        ("pod-image-count", str(len(regular))),
        ("pod-init-image-count", str(len(init))),
        ("container-name", status.get("name")),
        *(("container-image", status.get(key)) for key in ("image", "imageID")),
        *(("pod-image", one.get(key)) for one in regular for key in ("image", "imageID")),
        *(("pod-init-image", one.get(key)) for one in init for key in ("image", "imageID")),
    ]
    labels, owners = _at(pod, "metadata", "labels"), _at(pod, "metadata", "ownerReferences")
    if isinstance(labels, dict):
        wanted += [("pod-label", f"{name}:{value}") for name, value in labels.items()]
    for owner in owners if isinstance(owners, list) else []:
        if isinstance(owner, dict):
            wanted.append(("pod-owner", f"{owner.get('kind')}:{owner.get('name')}"))
            wanted.append(("pod-owner-uid", f"{owner.get('kind')}:{owner.get('uid')}"))
    return selectors_of("k8s", wanted)


def _at(document: object, *path: str) -> Any:
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _statuses(pod: object, *kinds: str) -> list[dict[str, Any]]:
    listed = [_at(pod, "status", kind) or [] for kind in kinds]
    return [status for one in listed if isinstance(one, list) for status in one if isinstance(status, dict)]
