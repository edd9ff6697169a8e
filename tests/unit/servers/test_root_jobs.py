"""The one-shot signer may do anything: who asks it gets an answer, or learns that there is none."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from rempart.crypto.x509 import EcKey, pem_to_ders
from rempart.kernel.errors import Unavailable
from rempart.servers import root_jobs
from rempart.servers.root_jobs import RootJobs
from rempart.servers.root_store import Signer
from rempart.servers.spawn import Launch
from rempart.workloads import authority

DOMAIN = "bank.example"
KEY = os.urandom(32)
SIGNER = (sys.executable, "-m", "rempart.servers.root_signer")
T = TypeVar("T")


def ask(log: Path, argv: tuple[str, ...], question: Callable[[RootJobs], Awaitable[T]]) -> T:
    jobs = RootJobs(lambda: Launch(argv=argv, env={}, parent=os.getpid()), log / "log", DOMAIN, KEY)

    async def run() -> T:
        try:
            return await question(jobs)
        finally:
            assert not jobs.running

    return asyncio.run(run())


def test_it_makes_a_root_and_signs_below_it(tmp_path: Path) -> None:
    new = ask(tmp_path, SIGNER, lambda jobs: jobs.make("web"))
    assert authority.unseal_root_key(KEY, new.sealed_key, kind="web", trust_domain=DOMAIN)
    signer = Signer(new.root.certificate, chain="CHAIN", sealed=new.sealed_key)
    csr = EcKey.generate().request().decode()
    signed = ask(tmp_path, SIGNER, lambda jobs: jobs.sign("web", csr, signer, ttl=60, names=("localhost",)))
    assert signed.endswith("CHAIN")
    assert len(pem_to_ders(signed.removesuffix("CHAIN"))) == 1


@pytest.mark.parametrize(
    "argv",
    [("/bin/false",), ("/bin/true",), ("/bin/echo", "no root"), ("/bin/sleep", "60")],
    ids=["fails", "says-nothing", "says-something-else", "hangs"],
)
def test_what_it_does_not_answer_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...]
) -> None:
    monkeypatch.setattr(root_jobs, "WITHIN", 0.3 if "sleep" in argv[0] else 10)
    with pytest.raises(Unavailable) as refusal:
        ask(tmp_path, argv, lambda jobs: jobs.make("spiffe"))
    assert refusal.value.code == "signing_failed"
    assert KEY.hex() not in (tmp_path / "log").read_text()
