"""Another implementation of tlog-tiles agrees: Tessera's `fsck` recomputes a log of ours from its entries."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.support_audit import SIGNER, open_log, payload

FSCK = "github.com/transparency-dev/tessera/cmd/fsck@v1.0.4"


@pytest.fixture(scope="session")
def fsck(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program; kept where `REMPART_TOOLS` says, so that it is built once."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("go is not installed")
    keep = os.environ.get("REMPART_TOOLS")
    directory = Path(keep) if keep else tmp_path_factory.mktemp("tools")
    program = directory / "fsck"
    if not program.exists():
        environment = {**os.environ, "GOBIN": str(directory), "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "auto"}
        built = subprocess.run([go, "install", FSCK], env=environment, capture_output=True, text=True, check=False)
        if built.returncode:
            pytest.skip(f"fsck can't be built here: {built.stderr.strip()[-300:]}")
    return program


@pytest.mark.interop
@pytest.mark.timeout(600)
@pytest.mark.parametrize("size", [1, 256, 700, 66_000])
def test_tesseras_fsck_accepts_a_log_of_ours(fsck: Path, tmp_path: Path, size: int) -> None:
    log = open_log(tmp_path)
    while log.size < size:
        first = log.size
        log.integrate([payload(f"e{n}") for n in range(first, min(size, first * 2 + 100))], {})
    assert accepts(fsck, tmp_path)


@pytest.mark.interop
@pytest.mark.timeout(600)
def test_tesseras_fsck_refuses_a_log_that_was_changed(fsck: Path, tmp_path: Path) -> None:
    open_log(tmp_path).integrate([payload(f"e{n}") for n in range(256)], {})
    bundle = tmp_path / "log/tile/entries/000"
    raw = bytearray(bundle.read_bytes())
    raw[50] ^= 1
    bundle.write_bytes(raw)
    assert not accepts(fsck, tmp_path)


def accepts(fsck: Path, state: Path) -> bool:
    """It may hang once it has found something wrong: what it hasn't accepted after 20 s, it refuses."""
    (state / "log.vkey").write_text(SIGNER.verifier_key + "\n")
    command = [str(fsck), "--storage_url", f"file://{state / 'log'}/", "--public_key", str(state / "log.vkey")]
    try:
        ended = subprocess.run([*command, "--ui=false"], capture_output=True, text=True, check=False, timeout=20)
    except subprocess.TimeoutExpired:
        return False
    return ended.returncode == 0 and "Successfully fsck'd" in ended.stderr + ended.stdout
