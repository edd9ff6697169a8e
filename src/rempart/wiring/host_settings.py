"""`[[host]]` of rempart.toml: other hosts for some of its programs, each with an agent (docs/many-hosts.md)."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from rempart.kernel.errors import BadInput
from rempart.kernel.spiffe import SpiffeId

from .check import Reader

AGENTS = "rempart/agent/"


@dataclass(frozen=True, slots=True)
class Host:
    """`address` is where others reach the sidecars there; `agent` the SPIFFE ID of its agent."""

    name: str
    address: str
    agent: str


def read_hosts(root: Reader, domain: str) -> tuple[Host, ...]:
    found: dict[str, Host] = {}
    agents: set[str] = set()
    for reader in root.tables("host"):
        name = reader.name("name", required=True)
        address = reader.text("address", required=True)
        joined = reader.text("agent", default=f"join_token/{name}")
        agent = ""
        try:
            agent = str(SpiffeId.parse(f"spiffe://{domain}/{AGENTS}{joined}"))
        except BadInput:
            reader.refuse("agent", f"{joined[:80]!r} is no name of an agent", 'write "join_token/NAME"')
        if address and not is_address(address):
            reader.refuse("address", f"{address[:80]!r} is no address of a host", "write an IP address")
        if name in found:
            reader.refuse("name", f"the host {name!r} is there twice", "leave one out")
        if agent in agents:
            reader.refuse("agent", f"{joined} is the agent of another host", "each host has its own")
        reader.no_more()
        agents.add(agent)
        found[name] = Host(name, address, agent)
    return tuple(found.values())


def check_placed(
    root: Reader, hosts: Sequence[Host], placed: Sequence[tuple[str, int, str]], *, joinable: bool
) -> None:
    """`placed`: a table of rempart.toml, which one of its kind, and the host that it names."""
    names = sorted(host.name for host in hosts)
    if names and not joinable:
        root.problems.add(("host",), "other hosts need a way to this one", "add [workloads.agents] with `listen`")
    for kind, index, host in placed:
        if host and host not in names:
            there = f"there are: {', '.join(names)}" if names else "declare it as a [[host]]"
            root.problems.add((kind, index, "host"), f"there is no host {host[:80]!r}", there)


def is_address(text: str) -> bool:
    """An IP address that somebody can be reached at."""
    try:
        return not ipaddress.ip_address(text).is_unspecified
    except ValueError:
        return False
