"""One-shot: unseal a root key, sign one issuing CA, end. So a root key is in memory for milliseconds, in a process that
reads nothing but its parent's pipe.

stdin, one JSON document: `{"kind": "spiffe"|"web", "trust_domain", "root": PEM, "sealed": base64 of the sealed root
key, "key": hex of the 32-byte sealing key, "csr": PEM, "ttl": seconds, "names": [DNS names and addresses, for web]}`;
below an upstream authority `"upstream_key": PEM` in place of `sealed` and `key`.
stdout: the certificate (PEM), exit code 0; else one JSON problem `{"code", "reason"}` on stderr and the exit code
of its class.
"""

from __future__ import annotations

import base64
import json
import sys
from typing import NoReturn

import msgspec

from rempart.kernel.errors import BadInput, RempartError

MAX_BYTES = 1 << 20


class Job(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kind: str
    trust_domain: str
    root: str
    csr: str
    ttl: float
    sealed: str = ""
    key: str = ""
    upstream_key: str = ""
    names: list[str] = []


def sign(document: bytes) -> str:
    """Raises BadInput for a job that makes no sense and Integrity when the sealed key is not what was written."""
    from rempart.workloads import authority

    try:
        job = msgspec.json.decode(document, type=Job)
        key, sealed = bytes.fromhex(job.key), base64.b64decode(job.sealed, validate=True)
    except (msgspec.DecodeError, ValueError):  # its text might quote the key
        raise BadInput("bad_job", "stdin does not hold a signing job") from None
    private_key = b""
    if not job.upstream_key:
        private_key = authority.unseal_root_key(key, sealed, kind=job.kind, trust_domain=job.trust_domain)
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


def main() -> NoReturn:
    try:
        document = sys.stdin.buffer.read(MAX_BYTES + 1)
        if len(document) > MAX_BYTES:
            raise BadInput("bad_job", "the signing job is too large")
        sys.stdout.write(sign(document))
    except RempartError as error:
        print(json.dumps({"code": error.code, "reason": error.reason}), file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    raise SystemExit(0)


if __name__ == "__main__":
    main()
