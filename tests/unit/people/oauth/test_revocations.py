"""A certificate that was taken away, or whose authority was, proves nobody from its next use on."""

from __future__ import annotations

import asyncio
import base64
import datetime
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from tests.oauth_support import OAuthHarness, basic, claims_of, oauth
from tests.upstream_ca import Ca, make_ca

from rempart.crypto.revocation_list import read_list
from rempart.kernel.errors import BadInput

ROOT = make_ca("Partners")
DEPARTMENT = make_ca("Department", ROOT)
OTHER = make_ca("Other department", ROOT)
SECRET = "a secret of sixteen"
DAY = datetime.timedelta(days=1)


def leaf(ca: Ca, name: str = "api") -> x509.Certificate:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(ca.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + 30 * DAY)
        .sign(ca.key, hashes.SHA256())
    )


def revocation_list(
    ca: Ca, *revoked: x509.Certificate, number: int = 1, days: float = 7, extension: x509.ExtensionType | None = None
) -> bytes:
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateRevocationListBuilder().issuer_name(ca.certificate.subject)
    builder = builder.last_update(now - DAY).next_update(now + datetime.timedelta(days=days))
    builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    if extension is not None:
        builder = builder.add_extension(extension, critical=True)
    for one in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(one.serial_number).revocation_date(now - DAY).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(ca.key, hashes.SHA256()).public_bytes(Encoding.DER)


def pem(*certificates: x509.Certificate) -> str:
    return "".join(one.public_bytes(Encoding.PEM).decode() for one in certificates)


def brought(*certificates: x509.Certificate) -> dict[str, str]:
    """As the gateway says it: what the client sent in its handshake, its own first."""
    digest = certificates[0].fingerprint(hashes.SHA256()).hex()
    return {"x-client-cert": f'Hash={digest};Chain="{quote(pem(*certificates), safe="")}"'}


@asynccontextmanager
async def partners() -> AsyncIterator[OAuthHarness]:
    async with oauth(mtls_authorities=ROOT.pem()) as h:
        h.clock.advance(time.time() - h.clock.now())
        more = {"grants": ["client_credentials"], "scopes": ["read"]}
        await h.client("partner", certificate_subject="dn:CN=api", **more)
        await h.client("watcher", secret=SECRET, serves=["bank.example"])
        yield h


async def ask(h: OAuthHarness, *certificates: x509.Certificate, client: str = "partner") -> httpx.Response:
    return await h.token("client_credentials", brought(*certificates), client_id=client)


async def let_in(h: OAuthHarness, *certificates: x509.Certificate) -> str:
    answer = await ask(h, *certificates)
    assert answer.status_code == 200, answer.text
    token: str = answer.json()["access_token"]
    return token


async def refused(h: OAuthHarness, why: str, *certificates: x509.Certificate, client: str = "partner") -> None:
    answer = await ask(h, *certificates, client=client)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert why in h.events("people.client_refused")[-1].reason


async def bring(h: OAuthHarness, data: bytes, *issuers: Ca) -> httpx.Response:
    body = {"list": base64.b64encode(data).decode(), "issuers": "".join(one.pem() for one in issuers)}
    return await h.people.admin.post("/revocations/lists", json=body)


async def take(h: OAuthHarness, certificate: x509.Certificate | str) -> dict[str, Any]:
    text = certificate if isinstance(certificate, str) else pem(certificate)
    answer = await h.people.admin.post("/revocations", json={"certificate": text, "note": "stolen"})
    assert answer.status_code == 201, answer.text
    document: dict[str, Any] = answer.json()
    return document


def run(scenario: Any) -> None:
    asyncio.run(scenario())


def test_an_intermediate_that_the_client_brings_vouches_for_it() -> None:
    async def scenario() -> None:
        async with partners() as h:
            mine = leaf(DEPARTMENT)
            await let_in(h, mine, DEPARTMENT.certificate)
            await let_in(h, leaf(ROOT))
            await refused(h, "no certificate", mine)
            await refused(h, "no certificate", mine, OTHER.certificate)
            await refused(h, "no certificate", DEPARTMENT.certificate)
            await refused(h, "no certificate", leaf(make_ca("Department")), make_ca("Department").certificate)

    run(scenario)


@pytest.mark.parametrize("which", ["leaf", "intermediate", "root"])
def test_what_is_taken_away_proves_nobody_from_its_next_use_on(which: str) -> None:
    async def scenario() -> None:
        async with partners() as h:
            mine, other = leaf(DEPARTMENT), leaf(OTHER)
            token = await let_in(h, mine, DEPARTMENT.certificate)
            assert await alive(h, token)
            gone = {"leaf": mine, "intermediate": DEPARTMENT.certificate, "root": ROOT.certificate}[which]
            taken = await take(h, gone)
            await refused(h, "taken away", mine, DEPARTMENT.certificate)
            assert not await alive(h, token)
            if which == "root":
                await refused(h, "taken away", other, OTHER.certificate)
            else:
                await let_in(h, other, OTHER.certificate)
            if which == "intermediate":
                await let_in(h, leaf(ROOT))
            event = h.events("people.client_changed")[-1]
            assert event.after["revocation"]["sha256"] == gone.fingerprint(hashes.SHA256()).hex()
            assert (await h.people.admin.delete(f"/revocations/{taken['id']}")).status_code == 204
            await let_in(h, mine, DEPARTMENT.certificate)

    run(scenario)


async def alive(h: OAuthHarness, token: str) -> bool:
    """As those see it whom the token is for."""
    found = await h.post("introspect", {"token": token}, basic("watcher", SECRET))
    return bool(found.json()["active"])


def test_tokens_that_the_client_gets_for_another_certificate_stand() -> None:
    async def scenario() -> None:
        async with partners() as h:
            mine = leaf(DEPARTMENT)
            old = await let_in(h, mine, DEPARTMENT.certificate)
            await take(h, mine)
            h.clock.advance(3)
            new = await let_in(h, leaf(DEPARTMENT), DEPARTMENT.certificate)
            assert not await alive(h, old)
            assert await alive(h, new)
            assert claims_of(new)["client_id"] == "partner"

    run(scenario)


def test_a_client_known_by_the_certificate_itself_loses_it_by_fingerprint() -> None:
    async def scenario() -> None:
        async with partners() as h:
            mine = leaf(make_ca("nobody's"))
            print_ = base64.urlsafe_b64encode(mine.fingerprint(hashes.SHA256())).rstrip(b"=").decode()
            await h.client("pinned", certificate=print_, grants=["client_credentials"], scopes=["read"])
            assert (await ask(h, mine, client="pinned")).status_code == 200
            await take(h, mine.fingerprint(hashes.SHA256()).hex(":").upper())
            await refused(h, "taken away", mine, client="pinned")

    run(scenario)


def test_an_authoritys_list_counts_from_the_next_use_on_and_a_newer_one_replaces_it() -> None:
    async def scenario() -> None:
        async with partners() as h:
            mine, other = leaf(DEPARTMENT), leaf(DEPARTMENT)
            chain = DEPARTMENT.certificate
            token = await let_in(h, mine, chain)
            await let_in(h, other, chain)
            assert (await bring(h, revocation_list(DEPARTMENT, mine))).json()["code"] == "bad_revocation_list"
            answer = await bring(h, revocation_list(DEPARTMENT, mine, number=2), DEPARTMENT)
            assert (answer.status_code, answer.json()["certificates"]) == (201, 1), answer.text
            await refused(h, "revocation list", mine, chain)
            await let_in(h, other, chain)
            assert not await alive(h, token)
            older = await bring(h, revocation_list(DEPARTMENT), DEPARTMENT)
            assert (older.status_code, older.json()["code"]) == (409, "older_list")
            assert (await bring(h, revocation_list(DEPARTMENT, number=3), DEPARTMENT)).status_code == 201
            await let_in(h, mine, chain)  # `certificateHold` was lifted

    run(scenario)


def test_an_intermediate_on_the_roots_list_takes_all_below_it_along() -> None:
    async def scenario() -> None:
        async with partners() as h:
            mine, other = leaf(DEPARTMENT), leaf(OTHER)
            token = await let_in(h, mine, DEPARTMENT.certificate)
            assert (await bring(h, revocation_list(ROOT, DEPARTMENT.certificate))).status_code == 201
            await refused(h, "revocation list", mine, DEPARTMENT.certificate)
            assert not await alive(h, token)
            await let_in(h, other, OTHER.certificate)
            await let_in(h, leaf(ROOT))

    run(scenario)


def test_a_list_that_is_out_of_date_vouches_for_nobody() -> None:
    async def scenario() -> None:
        async with partners() as h:
            mine = leaf(ROOT)
            made = await bring(h, revocation_list(ROOT, number=5))
            await let_in(h, mine)
            h.clock.advance(8 * 86400)
            await refused(h, "out of date", mine)
            shown = (await h.people.admin.get("/revocations")).json()
            assert [one["current"] for one in shown["lists"]] == [False]
            assert (await h.people.admin.delete(f"/revocations/{made.json()['id']}")).status_code == 204
            await let_in(h, mine)
            assert (await h.people.admin.delete(f"/revocations/{made.json()['id']}")).status_code == 404

    run(scenario)


def test_no_other_list_is_believed() -> None:
    foreign, now = make_ca("Partners"), time.time()
    part = x509.IssuingDistributionPoint(None, None, True, False, None, False, False)
    wrong: Sequence[bytes] = (
        b"",
        b"nonsense",
        pem(ROOT.certificate).encode(),
        revocation_list(foreign),
        revocation_list(ROOT, days=-0.5),
        revocation_list(ROOT, extension=x509.DeltaCRLIndicator(1)),
        revocation_list(ROOT, extension=part),
        revocation_list(ROOT)[:-3],
    )
    for data in wrong:
        with pytest.raises(BadInput) as refusal:
            read_list(data, (ROOT.certificate,), now)
        assert refusal.value.code == "bad_revocation_list"


def test_what_is_no_certificate_and_no_id_is_refused() -> None:
    async def scenario() -> None:
        async with partners() as h:
            for text in ("", "zz" * 32, "nonsense", "é", "\x00", "aa" * 31):
                answer = await h.people.admin.post("/revocations", json={"certificate": text})
                assert (answer.status_code, answer.json()["code"]) == (400, "bad_certificate"), text
            await take(h, "ab" * 32)
            twice = await h.people.admin.post("/revocations", json={"certificate": "ab" * 32})
            assert (twice.status_code, twice.json()["code"]) == (409, "already_revoked")
            for id in ("x", "cd" * 32, "%00"):
                assert (await h.people.admin.delete(f"/revocations/{id}")).status_code == 404

    run(scenario)
