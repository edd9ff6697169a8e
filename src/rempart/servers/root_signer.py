"""One-shot: do one thing with a root's private key, end. So a root key is in memory for milliseconds, in a process
that reads nothing but its parent's pipe.

stdin, one JSON document: `{"do": "sign", "kind": "spiffe"|"web", "trust_domain", "root": PEM, "sealed": base64 of the
sealed root key, "key": base64 of the 32-byte sealing key, "csr": PEM, "ttl": seconds, "names": [DNS names and
addresses, for web]}`, below an upstream authority `"upstream_key": PEM` in place of `sealed` and `key`; or
`{"do": "make", "kind", "trust_domain", "key"}`.
stdout: the issuing CA's certificate (PEM), or the new root (`NewRoot` as JSON), exit code 0; else one JSON problem
`{"code", "reason"}` on stderr and the exit code of its class.
"""

from __future__ import annotations

import json
import sys
from typing import NoReturn

import msgspec

from rempart.kernel.errors import BadInput, RempartError

MAX_BYTES = 1 << 20


class Sign(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="do", tag="sign", kw_only=True):
    kind: str
    trust_domain: str
    root: str
    csr: str
    ttl: float
    sealed: bytes = b""
    key: bytes = b""
    upstream_key: str = ""
    names: tuple[str, ...] = ()


class Make(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="do", tag="make", kw_only=True):
    kind: str
    trust_domain: str
    key: bytes


def done(document: bytes) -> str:
    """What a job comes to. Raises BadInput for one that makes no sense and Integrity when the sealed key is not what
    was written."""
    try:
        job = msgspec.json.decode(document, type=Sign | Make)
    except msgspec.DecodeError:  # its text might quote the key
        raise BadInput("bad_job", "stdin does not hold a job") from None
    return sign(job) if isinstance(job, Sign) else make(job)


def sign(job: Sign) -> str:
    from rempart.workloads import authority  # only who does it loads it, not who asks

    private_key = b""
    if not job.upstream_key:
        private_key = authority.unseal_root_key(job.key, job.sealed, kind=job.kind, trust_domain=job.trust_domain)
    return authority.sign_issuing(
        job.kind,
        job.trust_domain,
        root_certificate_pem=job.root,
        root_key_der=private_key,
        root_key_pem=job.upstream_key,
        csr_pem=job.csr,
        ttl=job.ttl,
        names=job.names,
    )


def make(job: Make) -> str:
    from rempart.workloads import authority

    if len(job.key) != 32:
        raise BadInput("bad_job", "the sealing key is not 32 bytes")
    return msgspec.json.encode(authority.new_root(job.kind, job.trust_domain, job.key)).decode()


def main() -> NoReturn:
    try:
        document = sys.stdin.buffer.read(MAX_BYTES + 1)
        if len(document) > MAX_BYTES:
            raise BadInput("bad_job", "the job is too large")
        sys.stdout.write(done(document))
    except RempartError as error:
        print(json.dumps({"code": error.code, "reason": error.reason}), file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    raise SystemExit(0)


if __name__ == "__main__":
    main()
