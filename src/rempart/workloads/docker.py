"""Facts of a Docker container, as selectors of SPIRE's docker attestor (Docker Engine API, "Inspect a container")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rempart.kernel.errors import RempartError

from .containers import Container
from .model import Selector
from .ports import ContainerEngine

MAX_FACTS = 512


class DockerFacts:
    """A `ContainerFacts`."""

    type = "docker"

    def __init__(self, engine: ContainerEngine) -> None:
        self._engine = engine

    async def of(self, container: Container) -> set[Selector]:
        try:
            return docker_selectors(await self._engine.container(container.id), container)
        except RempartError:
            return set()


def docker_selectors(told: Mapping[str, Any], container: Container) -> set[Selector]:
    """What isn't well formed, isn't running or is of another container gives no fact."""
    config, state = told.get("Config"), told.get("State")
    running = isinstance(state, dict) and state.get("Running") is True
    if told.get("Id") != container.id or not isinstance(config, dict) or not running:
        return set()
    labels, environment = config.get("Labels") or {}, config.get("Env") or []
    wanted: list[tuple[str, object]] = [("image_id", config.get("Image")), ("image_config_digest", told.get("Image"))]
    if isinstance(labels, dict):
        wanted += [("label", f"{name}:{value}") for name, value in labels.items()]
    if isinstance(environment, list):
        wanted += [("env", value) for value in environment]
    return selectors_of("docker", wanted)


def selectors_of(type_: str, wanted: list[tuple[str, object]]) -> set[Selector]:
    """Those of (kind, value) that a selector can have; other values could be asked for by no entry."""
    found = set()
    for kind, value in wanted[:MAX_FACTS]:
        if isinstance(value, str):
            try:
                found.add(Selector.parse(f"{type_}:{kind}:{value}"))
            except RempartError:
                continue
    return found
