"""Programs of other people that run on Node: where `scripts/node-packages.sh` put them."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = Path(__file__).parent / "node"


def node_modules() -> Path:
    """The directory of the packages that tests/node/package-lock.json names; installed at the first call."""
    subprocess.run(["bash", str(ROOT / "scripts" / "node-packages.sh")], check=True)
    return ROOT / ".cache" / "node" / "node_modules"
