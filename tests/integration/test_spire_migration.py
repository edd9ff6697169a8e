"""From a real SPIRE to Rempart within one trust domain: both trust each other meanwhile, and then SPIRE no more."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.identity_support import TRUST_DOMAIN, IdentityProcess, running_identity
from tests.integration.conftest import rempart
from tests.spire import PrivateSpire, private_spire, spire_is_missing
from tests.support import eventually

from rempart.crypto.svid import verify_svid
from rempart.kernel.errors import RempartError
from rempart.sdk.spiffe import JwtSvid, WorkloadApi, X509Svid, fetch_jwt_svid, fetch_x509_svids

pytestmark = pytest.mark.skipif(bool(spire_is_missing()), reason=f"SPIRE can't be run: {spire_is_missing()}")
MINE = f"unix:uid:{os.getuid()}"


@pytest.fixture(scope="module")
def spire() -> Iterator[PrivateSpire]:
    with private_spire(TRUST_DOMAIN) as spire:
        for name, selector in (("moved", MINE), ("elsewhere", "aws_iid:tag:name:x")):
            spire.ask(
                *("entry", "create", "-parentID", spire.agent_id, "-spiffeID", f"spiffe://{TRUST_DOMAIN}/{name}"),
                *("-selector", selector, "-hint", name, "-x509SVIDTTL", "600"),
            )
        yield spire


@pytest.fixture(scope="module")
def identity() -> Iterator[IdentityProcess]:
    with running_identity() as process:
        yield process


def migrate(identity: IdentityProcess, spire: PrivateSpire, *arguments: str, code: int = 0) -> Any:
    command = ("migrate", "spire", "--server-socket", str(spire.server_socket), *arguments, "--json")
    done = rempart(*command, state=identity.directory)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout) if done.stdout else done.stderr


def moved(endpoint: str) -> X509Svid | None:
    try:
        return next((one for one in fetch_x509_svids(endpoint) if one.spiffe_id.endswith("/moved")), None)
    except RempartError:
        return None


def token(endpoint: str) -> JwtSvid:
    return fetch_jwt_svid("a", f"spiffe://{TRUST_DOMAIN}/moved", endpoint=endpoint)


def accepted(endpoint: str, svid: X509Svid, jwt: JwtSvid) -> bool:
    """Does a workload at `endpoint` trust what its peer got from the other system?"""
    import asyncio

    async def ask() -> str:
        async with WorkloadApi(endpoint) as api:
            return (await api.validate_jwt_svid(jwt.token, "a"))[0]

    try:
        roots = fetch_x509_svids(endpoint)[0].roots
        verify_svid(svid.chain, roots, trust_domain=TRUST_DOMAIN, now=time.time())
        return asyncio.run(ask()).endswith("/moved")
    except RempartError:
        return False


def test_workloads_of_both_trust_each_other_until_the_end(identity: IdentityProcess, spire: PrivateSpire) -> None:
    theirs = f"unix://{spire.agent_socket}"
    old = eventually(lambda: moved(theirs), within=20)
    assert not accepted(identity.endpoint, old, token(theirs))
    planned = migrate(identity, spire, "--dry-run", code=1)
    assert (len(planned["created"]), planned["skipped"]) == (1, 2)  # aws_iid, and the alias of the node
    assert moved(identity.endpoint) is None
    assert not identity.admin("GET", "/adopted").json()["adopted"]

    before = identity.admin("GET", "/bundle").json()["spiffe_sequence"]
    done = migrate(identity, spire, code=1)
    assert done["created"][0]["spiffe_id"] == f"spiffe://{TRUST_DOMAIN}/moved"
    assert done["created"][0]["ttl"] == 600
    new = eventually(lambda: moved(identity.endpoint))
    assert identity.admin("GET", "/bundle").json()["spiffe_sequence"] > before
    assert accepted(identity.endpoint, old, token(theirs))
    eventually(lambda: accepted(theirs, new, token(identity.endpoint)), within=20)
    again = migrate(identity, spire, code=1)
    assert (again["created"], len(again["unchanged"]), again["roots"]) == ([], 1, done["roots"])

    identity.stop()
    identity.start()
    assert accepted(identity.endpoint, old, token(theirs))  # what was adopted outlives a restart
    migrate(identity, spire, "--finish")
    assert not accepted(identity.endpoint, old, token(theirs))
    assert "not_adopted" in migrate(identity, spire, "--finish", code=1)
    told = json.dumps(identity.events())
    assert "the authorities of spire are trusted, too" in told
    assert "the authorities of spire are trusted no more" in told


def test_a_spire_of_another_trust_domain_is_refused(identity: IdentityProcess) -> None:
    with private_spire("other.example") as other:
        assert "foreign_spire" in migrate(identity, other, code=2)


def test_where_spire_is_not_running_that_is_said(identity: IdentityProcess, spire: PrivateSpire) -> None:
    done = rempart("migrate", "spire", "--server-socket", "/tmp/no-such.sock", state=identity.directory)
    assert (done.returncode, "spire_unavailable" in done.stderr) == (3, True)
