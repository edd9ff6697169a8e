"""`rempart.sdk.spiffe` and `rempart.sdk.tls`: mutual TLS that follows rotation, and the CLI's `svid` on top of them."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.identity_support import TRUST_DOMAIN, IdentityProcess, running_identity

from rempart.kernel.errors import BadInput, Denied, Unauthenticated, Unavailable
from rempart.sdk.spiffe import WorkloadApi, endpoint_path, fetch_jwt_svid, fetch_x509_svid, split_certificates
from rempart.sdk.tls import TlsIdentity, verify_peer

ME = f"spiffe://{TRUST_DOMAIN}/test"


@pytest.fixture(scope="module")
def identity() -> Iterator[IdentityProcess]:
    with running_identity(svid_ttl=3) as process:
        yield process


def test_both_ends_follow_rotation_without_a_failed_handshake(identity: IdentityProcess) -> None:
    async def main() -> None:
        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert str(verify_peer(writer.get_extra_info("ssl_object"), {ME})) == ME
            writer.write(b"hello")
            await writer.drain()
            writer.close()

        seen = set()
        async with await TlsIdentity.start(identity.endpoint) as here:
            server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=here.server_context())
            port = server.sockets[0].getsockname()[1]
            async with asyncio.timeout(20):
                while len(seen) < 3:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=here.client_context())
                    peer = writer.get_extra_info("ssl_object")
                    assert str(verify_peer(peer, {ME})) == ME
                    with pytest.raises(Denied):
                        verify_peer(peer, {f"spiffe://{TRUST_DOMAIN}/other"})
                    seen.add(peer.getpeercert()["serialNumber"])
                    assert await reader.read() == b"hello"
                    writer.close()
                    await asyncio.sleep(0.02)
            server.close()
            await server.wait_closed()

    asyncio.run(main())


def test_a_peer_without_a_certificate_is_refused() -> None:
    import ssl

    nobody = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="x")
    with pytest.raises((Unauthenticated, ValueError)):  # before the handshake there is nothing to show
        verify_peer(nobody)


def test_the_key_is_in_no_file_and_in_no_text(identity: IdentityProcess) -> None:
    svid = fetch_x509_svid(identity.endpoint)
    assert svid.private_key.hex() not in repr(svid)
    assert repr(svid.private_key) not in repr(svid)
    token = fetch_jwt_svid("a", endpoint=identity.endpoint)
    assert token.token not in repr(token)
    for path in identity.directory.rglob("*"):
        if path.is_file():
            assert svid.private_key not in path.read_bytes()


def test_an_async_program_watches(identity: IdentityProcess) -> None:
    async def main() -> None:
        serials = []
        async with WorkloadApi(identity.endpoint) as api:
            async for svid in api.watch_x509_svid():
                serials.append(svid.chain[0])
                if len(serials) == 2:
                    break
            token = await api.fetch_jwt_svid(["a", "b"])
            assert (await api.validate_jwt_svid(token.token, "b"))[0] == ME
            with pytest.raises(BadInput):
                await api.validate_jwt_svid(token.token, "c")
        assert serials[0] != serials[1]

    asyncio.run(main())


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:1", "unix://relative", "unix:", "x"])
def test_an_endpoint_that_is_no_unix_socket_is_bad_input(endpoint: str) -> None:
    with pytest.raises(BadInput):
        endpoint_path(endpoint)


def test_nobody_there_is_unavailable(tmp_path: os.PathLike[str]) -> None:
    with pytest.raises(Unavailable):
        fetch_x509_svid(f"unix://{tmp_path}/nothing.sock")


@pytest.mark.parametrize(
    "junk", [b"x", b"\x30", b"\x30\x82\x01", b"\x30\x05abc", b"\x30\x80\0\0", b"\x30\x85\0\0\0\0\0"]
)
def test_what_is_no_der_is_bad_input(junk: bytes) -> None:
    with pytest.raises(BadInput):
        split_certificates(junk)


def rempart(identity: IdentityProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from rempart.cli.main import main; main()", *arguments]
    return subprocess.run([*command, "--state", str(identity.directory)], capture_output=True, text=True)


def test_the_command_writes_a_key_that_others_can_not_read(identity: IdentityProcess) -> None:
    directory = identity.directory / "out"
    for _ in range(2):
        assert rempart(identity, "svid", "x509", "--write", str(directory)).returncode == 0
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    assert modes == dict.fromkeys(("svid.pem", "key.pem", "bundle.pem", "combined.pem"), 0o600)
    directory.chmod(0o755)
    refused = rempart(identity, "svid", "x509", "--write", str(directory))
    assert (refused.returncode, "open_directory" in refused.stderr) == (2, True)


def test_the_command_applies_entries_and_tells_mistakes_with_their_line(identity: IdentityProcess) -> None:
    file = identity.directory / "entries.yaml"
    file.write_text(f"- spiffe_id: spiffe://{TRUST_DOMAIN}/cli\n  selectors: ['unix:uid:{os.getuid()}']\n")
    assert rempart(identity, "entry", "apply", str(file)).stdout.startswith("+ spiffe://")
    assert rempart(identity, "entry", "apply", str(file)).stdout.strip().endswith("1 unchanged")
    assert "/cli" in rempart(identity, "entry", "list").stdout
    assert rempart(identity, "entry", "delete", f"spiffe://{TRUST_DOMAIN}/cli").returncode == 0
    assert rempart(identity, "entry", "show", f"spiffe://{TRUST_DOMAIN}/cli").returncode == 1
    file.write_text("- spiffe_id: spiffe://other.example/x\n  selectors: [a]\n")
    refused = rempart(identity, "entry", "apply", str(file))
    assert refused.returncode == 2
    assert f"{file}:1:" in refused.stderr
    assert rempart(identity, "bundle", "export", "--format", "pem").stdout.startswith("-----BEGIN CERTIFICATE")
