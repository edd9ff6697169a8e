"""go-spiffe, the reference client, against Rempart. Builds from the Go module proxy."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.identity_support import TRUST_DOMAIN, running_identity

pytestmark = pytest.mark.interop
SOURCE = Path(__file__).parent / "go"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("go") is None:
        pytest.skip("go is not installed")
    binary = tmp_path_factory.mktemp("go") / "interop"
    built = subprocess.run(["go", "build", "-o", str(binary), "."], cwd=SOURCE, capture_output=True, text=True)
    if built.returncode:
        pytest.skip(f"go-spiffe can't be built here: {built.stderr.strip()[-300:]}")
    return binary


def test_go_spiffe_fetches_follows_rotation_and_speaks_mtls(program: Path) -> None:
    id_ = f"spiffe://{TRUST_DOMAIN}/interop"
    entries = [{"spiffe_id": id_, "selectors": [f"unix:uid:{os.getuid()}"]}]
    with running_identity([], trust_domain="partner.example") as partner:
        known = {"trust_domain": "partner.example", "bundle": partner.admin("GET", "/bundle").text}
    second = {
        "spiffe_id": f"spiffe://{TRUST_DOMAIN}/second",
        "selectors": [f"unix:uid:{os.getuid()}"],
        "hint": "internal",
        "federates_with": ["partner.example"],
    }
    with running_identity(entries, svid_ttl=4, partners=[known]) as identity:
        identity.admin("POST", "/entries", {"entries": [second]})
        environment = os.environ | {"SPIFFE_ENDPOINT_SOCKET": identity.endpoint}
        command = [str(program), id_, "/interop= /second=internal ", "partner.example"]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout) == (0, "OK\n"), ran.stderr
