"""java-spiffe against Rempart. Builds with Maven."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.identity_support import TRUST_DOMAIN, running_identity

pytestmark = pytest.mark.interop
SOURCE = Path(__file__).parent / "java"


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The class path."""
    if shutil.which("mvn") is None or shutil.which("java") is None:
        pytest.skip("Maven or Java is not installed")
    directory = tmp_path_factory.mktemp("java")
    shutil.copytree(SOURCE, directory, dirs_exist_ok=True, ignore=shutil.ignore_patterns("target"))
    built = subprocess.run(["mvn", "-q", "-B", "package"], cwd=directory, capture_output=True, text=True, timeout=600)
    if built.returncode:
        pytest.skip(f"java-spiffe can't be built here: {built.stdout.strip()[-300:]}")
    return f"{directory}/target/classes:{directory}/target/dependency/*"


def test_java_spiffe_fetches_validates_and_follows_rotation(classes: str) -> None:
    id_ = f"spiffe://{TRUST_DOMAIN}/interop"
    with running_identity([], trust_domain="partner.example") as partner:
        known = {"trust_domain": "partner.example", "bundle": partner.admin("GET", "/bundle").text}
    entry = {"spiffe_id": id_, "selectors": [f"unix:uid:{os.getuid()}"], "federates_with": ["partner.example"]}
    with running_identity([], svid_ttl=4, partners=[known]) as identity:
        assert identity.admin("POST", "/entries", {"entries": [entry]}).status_code == 200
        environment = os.environ | {"SPIFFE_ENDPOINT_SOCKET": f"unix:{identity.workload_api}"}
        command = ["java", "-cp", classes, "Interop", id_, "partner.example"]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.endswith("OK\n"), ran.stdout
