"""Another network namespace, which stands for another host: a link to it that can be cut, slow and lossy."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import pytest


def _run(*command: str) -> None:
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, f"{' '.join(command)}: {ran.stderr}"


@cache
def why_not() -> str:
    """Why there can be no other host here; empty when there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not shutil.which("ip"):
        return "there is no ip (iproute2)"
    name = f"rpt{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode:
        return f"no network namespace can be made here: {made.stderr.strip()}"
    _run("ip", "netns", "del", name)
    return ""


@dataclass(frozen=True)
class OtherHost:
    """`here` and `there` are the two ends of the link; `prefix` runs a command over there."""

    name: str
    here: str
    there: str
    link: str

    @property
    def prefix(self) -> Sequence[str]:
        return ("ip", "netns", "exec", self.name)

    def cut(self) -> None:
        _run("ip", "link", "set", self.link, "down")

    def mend(self) -> None:
        _run("ip", "link", "set", self.link, "up")

    def disturb(self, *how: str) -> None:
        """As tc-netem(8) says it, in both directions; skips where the kernel has no netem."""
        for prefix, link in (((), self.link), (self.prefix, f"{self.link}p")):
            command = [*prefix, "tc", "qdisc", "replace", "dev", link, "root", "netem", *how]
            ran = subprocess.run(command, capture_output=True, text=True)
            if ran.returncode:
                pytest.skip(f"no netem here: {ran.stderr.strip()}")


@contextlib.contextmanager
def other_host() -> Iterator[OtherHost]:
    if why := why_not():
        pytest.skip(why)
    number = os.getpid() % 250
    link = f"rp{os.getpid() % 100000}v"
    host = OtherHost(f"rpn{os.getpid()}", f"10.231.{number}.1", f"10.231.{number}.2", link)
    _run("ip", "netns", "add", host.name)
    try:
        _run("ip", "link", "add", link, "type", "veth", "peer", "name", f"{link}p", "netns", host.name)
        _run("ip", "addr", "add", f"{host.here}/30", "dev", link)
        _run("ip", "link", "set", link, "up")
        inside = ("ip", "-n", host.name)
        _run(*inside, "addr", "add", f"{host.there}/30", "dev", f"{link}p")
        _run(*inside, "link", "set", f"{link}p", "up")
        _run(*inside, "link", "set", "lo", "up")
        yield host
    finally:
        subprocess.run(["ip", "link", "del", link], capture_output=True)
        _run("ip", "netns", "del", host.name)
