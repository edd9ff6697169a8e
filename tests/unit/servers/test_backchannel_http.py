"""Logout tokens go to certificates of authorities that are believed, and to no others."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.upstream_ca import Ca, make_ca

from rempart.servers.backchannel_http import HttpLogoutSender


def served_by(ca: Ca, directory: Path) -> ssl.SSLContext:
    """A certificate of `ca` for localhost."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]))
        .issuer_name(ca.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(ca.key, hashes.SHA256())
    )
    pem = certificate.public_bytes(ser.Encoding.PEM)
    pem += key.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.PKCS8, ser.NoEncryption())
    (directory / "server.pem").write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.pem")
    return context


def told(ca: Ca, authorities: str, directory: Path) -> tuple[bool, bytes]:
    """Whether a client behind a certificate of `ca` said that it heard, and what it got."""
    got = bytearray()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.extend(await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(len("logout_token=TOKEN")))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async def body() -> bool:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=served_by(ca, directory))
        sender = HttpLogoutSender(authorities)
        try:
            return await sender.post(f"https://localhost:{server.sockets[0].getsockname()[1]}/logout", "TOKEN")
        finally:
            await sender.close()
            server.close()

    return asyncio.run(body()), bytes(got)


def test_a_private_authority_is_believed_when_the_operator_names_it(tmp_path: Path) -> None:
    ours, other = make_ca("Company"), make_ca("Company")
    heard, got = told(ours, ours.pem(), tmp_path)
    assert heard
    assert got.endswith(b"logout_token=TOKEN")
    for authorities in ("", other.pem()):
        assert told(ours, authorities, tmp_path) == (False, b"")
