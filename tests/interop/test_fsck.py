"""Another implementation of tlog-tiles agrees: Tessera's `fsck` recomputes a log of ours from its entries."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.support import eventually, short_directory
from tests.support_audit import SIGNER, open_log, payload
from tests.support_sequencer import over_tcp, running_sequencer

from rempart.audit.journal import Journal

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


@pytest.mark.interop
@pytest.mark.timeout(600)
def test_it_accepts_the_log_of_a_running_sequencer_over_http_while_the_key_rotates(fsck: Path) -> None:
    """With either key: both sign. Partial tiles come over HTTP also when longer ones have replaced their files."""
    with short_directory("fsk") as state, running_sequencer(state) as sequencer, over_tcp(sequencer) as url:
        journal = Journal(sequencer.journals / "pdp", "pdp")
        with sequencer.client() as client:
            for number in range(3):
                for at in range(400):
                    journal.append(payload(f"e{number}.{at}"))
                journal.commit()
                last = f"/events/e{number}.399"
                eventually(lambda last=last: client.get(last).status_code == 200)  # type: ignore[misc]
            old = state / "old.vkey"
            old.write_text((sequencer.data / "log.vkey").read_text())
            assert client.post("/log-keys/rotate", json={}).status_code == 200
        for key in (old, sequencer.data / "log.vkey"):
            assert accepts(fsck, state, url, key)
        journal.close()


def accepts(fsck: Path, state: Path, url: str = "", key: Path | None = None) -> bool:
    """It may hang once it has found something wrong: what it hasn't accepted after 20 s, it refuses."""
    if key is None:
        key = state / "log.vkey"
        key.write_text(SIGNER.verifier_key + "\n")
    command = [str(fsck), "--storage_url", url or f"file://{state / 'log'}/", "--public_key", str(key)]
    try:
        ended = subprocess.run([*command, "--ui=false"], capture_output=True, text=True, check=False, timeout=20)
    except subprocess.TimeoutExpired:
        return False
    return ended.returncode == 0 and "Successfully fsck'd" in ended.stderr + ended.stdout
