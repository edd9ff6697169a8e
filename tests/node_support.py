"""Programs of other people that run on Node: where `scripts/node-packages.sh` put them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = Path(__file__).parent / "node"


def node_modules() -> Path:
    """The directory of the packages that tests/node/package-lock.json names; installed at the first call."""
    subprocess.run(["bash", str(ROOT / "scripts" / "node-packages.sh")], check=True)
    return ROOT / ".cache" / "node" / "node_modules"


def converse(
    script: str, given: Mapping[str, Any], answer: Callable[[dict[str, Any]], Any], *, ca: str, within: float = 60
) -> list[dict[str, Any]]:
    """Run `tests/node/SCRIPT` with `given` as JSON on its first input line; returns what it told.

    Each line it prints is a JSON object: one with `ask` is answered with a line of JSON made by `answer`, one with
    `told` is collected. `ca` is the file of the authority that it trusts besides the usual ones.
    """
    with tempfile.TemporaryDirectory() as directory:
        where = Path(directory)
        (where / "node_modules").symlink_to(node_modules())
        for source in SCRIPTS.glob("*.mjs"):
            shutil.copy(source, where)
        environment = {"PATH": os.environ["PATH"], "HOME": directory, "NODE_EXTRA_CA_CERTS": ca}
        process = subprocess.Popen(
            ["node", str(where / script)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        alarm = threading.Timer(within, process.kill)
        alarm.start()
        told: list[dict[str, Any]] = []
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            print(json.dumps(given), file=process.stdin, flush=True)
            for line in process.stdout:
                said = json.loads(line)
                if "ask" in said:
                    print(json.dumps(answer(said)), file=process.stdin, flush=True)
                else:
                    told.append(said)
            errors = process.stderr.read()
            assert process.wait() == 0, (told, errors)
        finally:
            alarm.cancel()
            process.kill()
            process.communicate()
    return told
