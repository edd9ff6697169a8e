"""The Workload API as other people's clients see it, and as attackers do. One identity process serves all tests."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from spiffe import WorkloadApiClient
from spiffe._proto import workload_pb2, workload_pb2_grpc
from spiffe.workloadapi.errors import FetchJwtSvidError, FetchX509SvidError, ValidateJwtSvidError
from tests.identity_support import TRUST_DOMAIN, IdentityProcess, running_identity
from tests.support import eventually

from rempart.crypto.svid import verify_svid
from rempart.kernel.errors import Denied
from rempart.sdk.spiffe import fetch_jwt_svid, fetch_x509_svids, split_certificates
from rempart.workloads.process import start_time_of

WALLET = f"spiffe://{TRUST_DOMAIN}/wallet"
HEADER = (("workload.spiffe.io", "true"),)


@pytest.fixture(scope="module")
def identity() -> Iterator[IdentityProcess]:
    entries = [{"spiffe_id": WALLET, "selectors": ["supervisor:service:wallet", f"unix:uid:{os.getuid()}"]}]
    with running_identity(entries) as process:
        yield process


@pytest.fixture
def as_wallet(identity: IdentityProcess) -> Iterator[IdentityProcess]:
    """This test process is the service `wallet` for the supervisor."""
    identity.supervisor.supervised[os.getpid()] = ("service", "wallet")
    yield identity
    identity.supervisor.supervised.clear()


def test_py_spiffe_gets_its_svid_and_openssl_accepts_it(as_wallet: IdentityProcess, tmp_path: Path) -> None:
    with WorkloadApiClient(as_wallet.endpoint) as client:
        context = client.fetch_x509_context()
        bundle = context.x509_bundle_set.get_bundle_for_trust_domain(context.default_svid.spiffe_id.trust_domain)
    assert str(context.default_svid.spiffe_id) == WALLET
    (svid,) = fetch_x509_svids(as_wallet.endpoint)
    (tmp_path / "chain.pem").write_text(svid.certificate_pem())
    (tmp_path / "root.pem").write_text(svid.bundle_pem())
    chain, root = str(tmp_path / "chain.pem"), str(tmp_path / "root.pem")
    command = ["openssl", "verify", "-x509_strict", "-CAfile", root, "-untrusted", chain, chain]
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert bundle is not None
    assert len(bundle.x509_authorities) == 1
    text = subprocess.run(["openssl", "x509", "-in", chain, "-noout", "-text"], capture_output=True, text=True).stdout
    assert text.count("URI:") == 1
    assert f"URI:{WALLET}" in text


def test_py_spiffe_gets_and_validates_a_jwt_svid(as_wallet: IdentityProcess) -> None:
    with WorkloadApiClient(as_wallet.endpoint) as client:
        svid = client.fetch_jwt_svid(audience={"reports"})
        assert str(client.validate_jwt_svid(svid.token, "reports").spiffe_id) == WALLET
        with pytest.raises(ValidateJwtSvidError):
            client.validate_jwt_svid(svid.token, "somebody-else")
        bundles = client.fetch_jwt_bundles()
        from spiffe import JwtSvid

        bundle = bundles.get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
        assert bundle is not None
        assert str(JwtSvid.parse_and_validate(svid.token, bundle, {"reports"}).spiffe_id) == WALLET


def test_a_jwt_svid_outlives_a_restart_of_identity(as_wallet: IdentityProcess) -> None:
    token = fetch_jwt_svid("reports", endpoint=as_wallet.endpoint).token
    sequence = as_wallet.admin("GET", "/bundle").json()["spiffe_sequence"]
    assert as_wallet.stop(signal.SIGKILL) == -signal.SIGKILL
    as_wallet.start()
    with WorkloadApiClient(as_wallet.endpoint) as client:
        assert str(client.validate_jwt_svid(token, "reports").spiffe_id) == WALLET
    bundle = as_wallet.admin("GET", "/bundle").json()
    assert bundle["spiffe_sequence"] > sequence
    assert all("kid" not in key for key in bundle["keys"] if key["use"] == "x509-svid")
    assert all(key["kid"] for key in bundle["keys"] if key["use"] == "jwt-svid")
    private = json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))["kid"].encode()
    for path in (as_wallet.directory / "data").iterdir():
        assert private not in path.read_bytes()  # what is kept of the keys is sealed


def stub(identity: IdentityProcess, channel: grpc.Channel) -> Any:
    return workload_pb2_grpc.SpiffeWorkloadAPIStub(channel)


def calls(api: Any, metadata: Any) -> dict[str, Any]:
    return {
        "x509": lambda: next(api.FetchX509SVID(workload_pb2.X509SVIDRequest(), metadata=metadata, timeout=5)),
        "bundles": lambda: next(api.FetchX509Bundles(workload_pb2.X509BundlesRequest(), metadata=metadata, timeout=5)),
        "jwt": lambda: api.FetchJWTSVID(workload_pb2.JWTSVIDRequest(audience=["a"]), metadata=metadata, timeout=5),
        "jwks": lambda: next(api.FetchJWTBundles(workload_pb2.JWTBundlesRequest(), metadata=metadata, timeout=5)),
        "validate": lambda: api.ValidateJWTSVID(
            workload_pb2.ValidateJWTSVIDRequest(audience="a", svid="x.y.z"), metadata=metadata, timeout=5
        ),
    }


@pytest.mark.parametrize("call", ["x509", "bundles", "jwt", "jwks", "validate"])
@pytest.mark.parametrize("metadata", [(), (("workload.spiffe.io", "false"),), (*HEADER, *HEADER)])
def test_without_the_security_header_nothing_is_answered(as_wallet: IdentityProcess, call: str, metadata: Any) -> None:
    with grpc.insecure_channel(as_wallet.endpoint) as channel, pytest.raises(grpc.RpcError) as refusal:
        calls(stub(as_wallet, channel), metadata)[call]()
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("call", ["x509", "bundles", "jwt", "jwks", "validate"])
def test_who_has_no_identity_is_refused_everywhere(identity: IdentityProcess, call: str) -> None:
    with grpc.insecure_channel(identity.endpoint) as channel, pytest.raises(grpc.RpcError) as refusal:
        calls(stub(identity, channel), HEADER)[call]()
    assert refusal.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_bundles_are_pushed_when_they_change(as_wallet: IdentityProcess) -> None:
    """One stream of each kind: a new root reaches the X.509 ones, a new JWT key the JWT ones, and nobody asks again."""
    with grpc.insecure_channel(as_wallet.endpoint) as channel:
        api = stub(as_wallet, channel)
        domain = f"spiffe://{TRUST_DOMAIN}"
        x509 = api.FetchX509Bundles(workload_pb2.X509BundlesRequest(), metadata=HEADER, timeout=30)
        jwt = api.FetchJWTBundles(workload_pb2.JWTBundlesRequest(), metadata=HEADER, timeout=30)
        svids = api.FetchX509SVID(workload_pb2.X509SVIDRequest(), metadata=HEADER, timeout=30)
        assert len(split_certificates(next(x509).bundles[domain])) == 1
        assert len(split_certificates(next(svids).svids[0].bundle)) == 1
        before = json.loads(next(jwt).bundles[domain])["keys"]
        as_wallet.admin("POST", "/authorities/jwt/rotate")
        after = json.loads(next(jwt).bundles[domain])["keys"]
        assert len(after) == len(before) + 1
        as_wallet.supervisor.rotate_root("spiffe", overlap=600)
        assert len(split_certificates(next(x509).bundles[domain])) == 2
        assert len(split_certificates(next(svids).svids[0].bundle)) == 2


def test_audiences_decide_who_may_use_a_token_and_none_is_shared(as_wallet: IdentityProcess) -> None:
    with grpc.insecure_channel(as_wallet.endpoint) as channel:
        api = stub(as_wallet, channel)

        def fetch(*audience: str) -> str:
            request = workload_pb2.JWTSVIDRequest(audience=audience)
            return str(api.FetchJWTSVID(request, metadata=HEADER, timeout=5).svids[0].svid)

        def validate(token: str, audience: str) -> Any:
            request = workload_pb2.ValidateJWTSVIDRequest(audience=audience, svid=token)
            return api.ValidateJWTSVID(request, metadata=HEADER, timeout=5)

        one, other, both = fetch("a"), fetch("b"), fetch("a", "b")
        assert len({one, other, both}) == 3
        assert list(validate(one, "a").claims["aud"]) == ["a"]
        assert list(validate(both, "b").claims["aud"]) == ["a", "b"]
        for token, audience in ((one, "b"), (other, "a"), (one, ""), ("", "a"), (one, "A"), (both, "c")):
            with pytest.raises(grpc.RpcError) as refusal:
                validate(token, audience)
            assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        for bad in ([], [""], ["x" * 600], [str(n) for n in range(9)]):
            with pytest.raises(grpc.RpcError) as refusal:
                fetch(*bad)
            assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        for unknown in ("spiffe://", "x", "spiffe://UPPER/x"):
            request = workload_pb2.JWTSVIDRequest(audience=["a"], spiffe_id=unknown)
            with pytest.raises(grpc.RpcError) as refusal:
                api.FetchJWTSVID(request, metadata=HEADER, timeout=5)
            assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        method: Any = channel.unary_unary("/SpiffeWorkloadAPI/FetchWITSVID")
        with pytest.raises(grpc.RpcError) as refusal:
            method(b"", metadata=HEADER, timeout=5)
        assert refusal.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_every_selector_must_match(identity: IdentityProcess) -> None:
    identity.supervisor.supervised[os.getpid()] = ("client", "wallet")  # the right name, of another kind
    try:
        with WorkloadApiClient(identity.endpoint) as client, pytest.raises(FetchX509SvidError):
            client.fetch_x509_svid()
    finally:
        identity.supervisor.supervised.clear()


def test_a_supervisor_that_speaks_of_an_earlier_process_of_this_pid_is_not_believed(as_wallet: IdentityProcess) -> None:
    as_wallet.supervisor.lie_start_time = start_time_of(os.getpid()) - 1
    try:
        with WorkloadApiClient(as_wallet.endpoint) as client, pytest.raises(FetchX509SvidError):
            client.fetch_x509_svid()
    finally:
        as_wallet.supervisor.lie_start_time = None


def test_a_dead_supervisor_means_no_identity(as_wallet: IdentityProcess) -> None:
    as_wallet.supervisor.refuse = True
    try:
        with pytest.raises(Denied):
            fetch_x509_svids(as_wallet.endpoint)
    finally:
        as_wallet.supervisor.refuse = False


def test_another_identity_than_ones_own_is_refused(as_wallet: IdentityProcess) -> None:
    from spiffe import SpiffeId

    with WorkloadApiClient(as_wallet.endpoint) as client, pytest.raises(FetchJwtSvidError):
        client.fetch_jwt_svid({"a"}, SpiffeId(f"spiffe://{TRUST_DOMAIN}/rempart/gateway"))


# A process connects, gives its connection to a child and then becomes somebody else (or nobody). `after` says what.
_CHANGELING = """
import os, socket, sys, time
path, after, parent = sys.argv[1], sys.argv[2:], os.getpid()
connection = socket.socket(socket.AF_UNIX)
connection.connect(path)
connection.set_inheritable(True)
connection.recv(1, socket.MSG_PEEK)     # the server's settings: it has accepted us
go_r, go_w = os.pipe()
if os.fork() == 0:
    os.close(go_w)
    os.read(go_r, 1)                    # end of file when the parent is gone or has become another program
    while not after and os.getppid() == parent:
        time.sleep(0.001)               # its descriptors are closed a moment before it is dead
    from h2.connection import H2Connection
    h2 = H2Connection()
    h2.initiate_connection()
    h2.send_headers(1, [(":method", "POST"), (":scheme", "http"), (":path", "/SpiffeWorkloadAPI/FetchX509SVID"),
        (":authority", "x"), ("te", "trailers"), ("content-type", "application/grpc"), ("workload.spiffe.io", "true")])
    h2.send_data(1, bytes(5), end_stream=True)
    answer = b""
    try:
        connection.sendall(h2.data_to_send())
        connection.settimeout(3)
        while b"StreamEnded" not in answer and (chunk := connection.recv(65536)):
            for event in h2.receive_data(chunk):
                answer += repr((type(event).__name__, vars(event))).encode()
    except OSError as error:
        answer += repr(error).encode()
    print("ANSWER", answer.hex(), flush=True)
    os._exit(0)
os.close(go_r)
os.set_inheritable(go_w, False)
if after:
    os.execv(after[0], after)
os._exit(0)
"""


def changeling(identity: IdentityProcess, *after: str) -> tuple[int, bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", _CHANGELING, str(identity.workload_api), *after], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], 15)
    assert readable, "the child said nothing"
    answer = bytes.fromhex(process.stdout.readline().split()[1])
    process.kill()
    process.wait()
    process.stdout.close()
    return process.pid, answer


def test_a_connection_whose_process_has_exited_is_worth_nothing(identity: IdentityProcess) -> None:
    """What pid reuse would need: the pid means somebody else by now. The supervisor swears that it is the wallet."""
    identity.supervisor.before_answer = lambda pid: identity.supervisor.supervised.update({pid: ("service", "wallet")})
    identity.supervisor.lie_start_time = 1
    try:
        _, answer = changeling(identity)
    finally:
        identity.supervisor.before_answer = identity.supervisor.lie_start_time = None
        identity.supervisor.supervised.clear()
    assert b"Received" not in answer  # neither headers nor data: the connection ended with its process
    assert b"Error" in answer or answer == b""


def test_becoming_another_program_after_connecting_gives_nothing(identity: IdentityProcess) -> None:
    program = identity.directory / "legitimate"
    shutil.copy("/bin/sleep", program)
    entries = [{"spiffe_id": f"spiffe://{TRUST_DOMAIN}/legitimate", "selectors": [f"unix:path:{program}"]}]
    assert identity.admin("POST", "/entries", {"entries": entries}).status_code == 200
    _, answer = changeling(identity, str(program), "5")
    assert f"spiffe://{TRUST_DOMAIN}/legitimate".encode() not in answer
    assert b"caller_changed" in answer


def test_program_selectors_match_the_program_itself(identity: IdentityProcess, tmp_path: Path) -> None:
    """The positive case of the one above: by path, and by sha256."""
    import hashlib

    interpreter = os.path.realpath(sys.executable)
    digest = hashlib.sha256(Path(interpreter).read_bytes()).hexdigest()
    entries = [
        {"spiffe_id": f"spiffe://{TRUST_DOMAIN}/python", "selectors": [f"unix:path:{interpreter}"]},
        {"spiffe_id": f"spiffe://{TRUST_DOMAIN}/hashed", "selectors": [f"unix:sha256:{digest}"]},
    ]
    assert identity.admin("POST", "/entries", {"entries": entries}).status_code == 200
    try:
        found = {svid.spiffe_id for svid in fetch_x509_svids(identity.endpoint)}
    finally:
        for entry in entries:
            identity.admin("DELETE", "/entries/" + str(entry["spiffe_id"]).replace("/", "%2F"))
    assert found == {entry["spiffe_id"] for entry in entries}
    with pytest.raises(Denied):
        fetch_x509_svids(identity.endpoint)


def test_issuing_is_recorded_before_the_svid_is_given(as_wallet: IdentityProcess) -> None:
    (svid,) = fetch_x509_svids(as_wallet.endpoint)
    from rempart.crypto.x509 import Certificate

    serial = Certificate.parse(svid.chain[0]).serial
    recorded = [event["unmapped"]["rempart"] for event in as_wallet.events()]
    assert any(e["type"] == "workloads.svid_issued" and serial in json.dumps(e) for e in recorded)


def test_a_probing_process_cannot_flood_the_record(identity: IdentityProcess) -> None:
    before = len(identity.events())
    with grpc.insecure_channel(identity.endpoint) as channel:
        api = stub(identity, channel)
        for _ in range(100):
            with pytest.raises(grpc.RpcError):
                calls(api, HEADER)["jwt"]()
    assert len(identity.events()) - before <= 3
    refused = next(line for line in identity.metrics().splitlines() if line.startswith("rempart_svids_refused_total "))
    assert float(refused.split()[1]) >= 100


def test_an_applied_entry_reaches_an_open_stream_and_its_deletion_ends_it(identity: IdentityProcess) -> None:
    entry = {"spiffe_id": f"spiffe://{TRUST_DOMAIN}/short", "selectors": [f"unix:uid:{os.getuid()}"]}
    assert identity.admin("POST", "/entries", {"entries": [entry]}).json()["created"]
    with grpc.insecure_channel(identity.endpoint) as channel:
        stream = stub(identity, channel).FetchX509SVID(workload_pb2.X509SVIDRequest(), metadata=HEADER, timeout=10)
        assert [svid.spiffe_id for svid in next(stream).svids] == [entry["spiffe_id"]]
        changed = entry | {"ttl": 120}
        assert identity.admin("POST", "/entries", {"entries": [changed]}).json()["changed"]
        again = next(stream).svids[0]
        chain = split_certificates(again.x509_svid)
        id_ = verify_svid(chain, split_certificates(again.bundle), trust_domain=TRUST_DOMAIN, now=time.time())
        assert str(id_) == entry["spiffe_id"]
        assert identity.admin("DELETE", "/entries/" + str(entry["spiffe_id"]).replace("/", "%2F")).status_code == 200
        with pytest.raises(grpc.RpcError) as ended:
            next(stream)
    assert ended.value.code() is grpc.StatusCode.PERMISSION_DENIED
    changes = [e["unmapped"]["rempart"] for e in identity.events()]
    kinds = [e for e in changes if e["type"] == "workloads.entry_changed" and "/short" in json.dumps(e)]
    assert len(kinds) == 3


def test_rotating_the_issuing_authority_pushes_new_svids_at_once(as_wallet: IdentityProcess) -> None:
    with grpc.insecure_channel(as_wallet.endpoint) as channel:
        stream = stub(as_wallet, channel).FetchX509SVID(workload_pb2.X509SVIDRequest(), metadata=HEADER, timeout=10)
        before = split_certificates(next(stream).svids[0].x509_svid)
        assert as_wallet.admin("POST", "/authorities/spiffe/rotate").status_code == 200
        after = split_certificates(next(stream).svids[0].x509_svid)
    assert before[1] != after[1]
    assert as_wallet.admin("GET", "/authorities").json()["authorities"][0]["retired"]
    assert as_wallet.admin("POST", "/authorities/other/rotate").status_code == 404


# -- robustness: whatever one peer does, others are served ---------------------------------------------------------


def served(identity: IdentityProcess) -> bool:
    started = time.monotonic()
    assert fetch_x509_svids(identity.endpoint)
    return time.monotonic() - started < 3


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        os.urandom(4096),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + os.urandom(512),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff\xff\xff\x00\x00\x00\x00\x00\x00",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x05\x01\x05\0\0\0\x01\xff\xff\xff\xff\xff",
    ],
    ids=["http1", "noise", "noise-after-preface", "giant-frame", "bad-hpack"],
)
def test_malformed_http2_ends_that_connection_only(as_wallet: IdentityProcess, garbage: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as attacker:
        attacker.connect(str(as_wallet.workload_api))
        attacker.settimeout(8)
        attacker.sendall(garbage)
        try:
            while attacker.recv(65536):
                pass
        except ConnectionError:
            pass
    assert served(as_wallet)


def test_thousands_of_half_open_connections_do_not_keep_others_out(as_wallet: IdentityProcess) -> None:
    attackers = []
    try:
        for _ in range(900):
            attacker = socket.socket(socket.AF_UNIX)
            attacker.setblocking(False)
            try:
                attacker.connect(str(as_wallet.workload_api))
            except BlockingIOError:
                attacker.close()  # the backlog is full for now
                eventually(lambda: served(as_wallet), within=10)
                continue
            attackers.append(attacker)
        assert served(as_wallet)
    finally:
        for attacker in attackers:
            attacker.close()


def test_a_client_that_never_reads_is_cut_off(as_wallet: IdentityProcess) -> None:
    from h2.connection import H2Connection

    with socket.socket(socket.AF_UNIX) as attacker:
        attacker.connect(str(as_wallet.workload_api))
        attacker.settimeout(5)
        h2 = H2Connection()
        h2.initiate_connection()
        attacker.sendall(h2.data_to_send())

        def flood() -> None:
            for _ in range(20000):
                for _ in range(100):
                    h2.ping(os.urandom(8))
                attacker.sendall(h2.data_to_send())

        started = time.monotonic()
        with pytest.raises(OSError, match=r"Broken pipe|reset"):
            flood()
        assert time.monotonic() - started < 4  # before the deadline for a first request would have ended it
    assert served(as_wallet)


def test_rapid_reset_is_cut_off(as_wallet: IdentityProcess) -> None:
    from h2.connection import H2Connection

    headers = [(":method", "POST"), (":scheme", "http"), (":path", "/SpiffeWorkloadAPI/FetchX509SVID")]
    headers += [(":authority", "x"), ("te", "trailers"), ("content-type", "application/grpc")]
    with socket.socket(socket.AF_UNIX) as attacker:
        attacker.connect(str(as_wallet.workload_api))
        attacker.settimeout(5)
        h2 = H2Connection()
        h2.initiate_connection()
        h2.remote_settings.max_concurrent_streams = 1 << 30

        def flood() -> None:
            for stream in range(1, 40001, 2):
                h2.send_headers(stream, headers)
                h2.reset_stream(stream)
                attacker.sendall(h2.data_to_send())

        with pytest.raises(OSError, match=r"Broken pipe|reset"):
            flood()
    assert served(as_wallet)


def test_a_message_that_claims_to_be_huge_is_refused(as_wallet: IdentityProcess) -> None:
    request = workload_pb2.ValidateJWTSVIDRequest(audience="a", svid="x" * (1 << 18))
    with grpc.insecure_channel(as_wallet.endpoint) as channel, pytest.raises(grpc.RpcError) as refusal:
        stub(as_wallet, channel).ValidateJWTSVID(request, metadata=HEADER, timeout=5)
    assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_without_a_journal_nothing_is_issued(as_wallet: IdentityProcess) -> None:
    """Put a file in the journal's place: what can't be recorded is not given; what was given stays valid."""
    directory = as_wallet.directory / "journal"
    as_wallet.stop()
    moved = directory.rename(as_wallet.directory / "journal.away")
    directory.write_text("in the way")
    try:
        with pytest.raises(AssertionError):
            as_wallet.start()
    finally:
        directory.unlink()
        moved.rename(directory)
        as_wallet.start()
    assert served(as_wallet)


def test_sigterm_ends_it_cleanly_and_quickly(as_wallet: IdentityProcess) -> None:
    with grpc.insecure_channel(as_wallet.endpoint) as channel:
        stream = stub(as_wallet, channel).FetchX509SVID(workload_pb2.X509SVIDRequest(), metadata=HEADER, timeout=10)
        next(stream)
        started = time.monotonic()
        assert as_wallet.stop() == 0
        assert time.monotonic() - started < 3
    as_wallet.start()
