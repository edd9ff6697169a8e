"""docs/many-hosts.md, pasted block by block: its two hosts on one machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support import free_port, short_directory
from tests.two_hosts import why_not

PAGE = Path(__file__).parents[2] / "docs" / "many-hosts.md"
WALK = re.compile(r"^## Try it.*?(?=^## )", re.M | re.S)
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.M | re.S)


def blocks(places: dict[str, str]) -> list[str]:
    """Of the walk, with this test's own places in place of the page's."""
    walk = WALK.search(PAGE.read_text())
    assert walk is not None
    found = [str(block) for block in BLOCK.findall(walk[0])]
    for old, new in places.items():
        assert any(old in block for block in found), old
        found = [block.replace(old, new) for block in found]
    return found


def test_the_walk_works_as_it_is_written() -> None:
    if why := why_not():
        pytest.skip(why)
    if not shutil.which("curl"):
        pytest.skip("there is no curl")
    number, name = os.getpid() % 250, f"rpw{os.getpid() % 100000}"
    with short_directory("rpw") as directory:
        directory.chmod(0o755)  # as /tmp/two is: services have users of their own
        gateway = free_port()
        places = {
            "/tmp/two": str(directory),
            "10.77.0.": f"10.232.{number}.",
            ":8081": f":{free_port()}",
            "localhost:8443": f"localhost:{gateway}",
            "near up app": f"near up app --listen 127.0.0.1:{gateway}",
            "netns add far": f"netns add {name}",
            "netns exec far": f"netns exec {name}",
            "netns del far": f"netns del {name}",
            "-n far ": f"-n {name} ",
            "netns far": f"netns {name}",
            "near0": f"{name}n",
            "far0": f"{name}f",
        }
        *walk, clean_up = blocks(places)
        marked = [f"echo '=== {step}'\n{block}" for step, block in enumerate(walk, 1)]
        script = "\n".join(["set -e", f"clean_up() {{ set +e\n{clean_up}}}", "trap clean_up EXIT", *marked])
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "NO_COLOR": "1"}
        command = ["timeout", "200", "bash", "-c", script]  # ended by TERM it still cleans up
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", env=environment)
        assert not directory.exists()
    assert name not in subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    said = re.split(r"^=== \d+\n", done.stdout, flags=re.M)
    assert "hello usr_" in said[5], said[5]
    assert "ready on this host" in said[4], said[4]
    assert "join_token/far" in said[4]
    assert "pdp@join_token/far" in said[6], said[6]
    assert "spiffe://hello.example/batch" in said[7], said[7]
    assert "no_identity" in done.stderr, done.stderr[-3000:]


pytestmark = pytest.mark.timeout(240)
