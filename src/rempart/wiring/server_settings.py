"""What a server of identities alone is told: a `rempart.toml`, or a trust domain and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rempart.kernel.spiffe import parse_trust_domain

from .process_workloads import AgentSettings
from .settings import AppSettings, load, parse
from .workload_settings import DEFAULT_AGENTS, AgentsPlan


def server_settings(directory: Path | None, trust_domain: str, listen: tuple[str, int] | None) -> AppSettings:
    """`listen` overrides where agents reach it. Raises BadInput as `load`."""
    if directory is not None:
        app = load(directory)
    else:
        name = parse_trust_domain(trust_domain)
        app = parse(f'[app]\nname = "server"\ntrust_domain = "{name}"\n', Path.cwd())
    agents = app.workloads.agents or AgentsPlan(DEFAULT_AGENTS, AgentSettings())
    if listen is not None:
        agents = replace(agents, listen=listen)
    return replace(app, workloads=replace(app.workloads, agents=agents))
