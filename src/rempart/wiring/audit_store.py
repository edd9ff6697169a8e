"""Where the log is kept and for how long, as `[audit]` of rempart.toml says: directory, PostgreSQL or S3."""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec

from rempart.kernel.errors import BadInput
from rempart.protocols.event_catalogue import Retention

from .check import Reader
from .people_state import read_address
from .receivers import secret

DIRECTORY, S3 = "directory", "s3"
_LONGEST = 100 * 366  # days


class LogStoreSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`kind` is `directory`, `s3`, or the address of a PostgreSQL with its password filled in."""

    kind: str = DIRECTORY
    endpoint: str = ""
    bucket: str = ""
    prefix: str = ""
    region: str = ""
    access_key: str = ""
    secret_key: str = ""

    def __repr__(self) -> str:
        return f"LogStoreSettings(kind={self.kind.partition(':')[0]!r})"


def read_store(audit: Reader, environment: Mapping[str, str] = os.environ) -> LogStoreSettings:
    """`audit` is the reader of the table `audit`."""
    kind = audit.text("storage", default=DIRECTORY)
    table = audit.table("s3")
    if kind != S3:
        table.no_more()
        if kind != DIRECTORY:
            kind = read_address(audit, "storage", kind, environment, ("postgresql",), DIRECTORY)
        return LogStoreSettings(kind=kind)
    return _s3(table, environment)


def _s3(table: Reader, environment: Mapping[str, str]) -> LogStoreSettings:
    from rempart.backends.aws_signature import Credentials
    from rempart.backends.s3_log import S3Log

    endpoint = table.text("endpoint", required=True)
    bucket = table.text("bucket", required=True)
    prefix = table.text("prefix", pattern=r"[A-Za-z0-9._/-]{0,200}")
    region = table.text("region", default="us-east-1", pattern=r"[a-z0-9-]{1,40}")
    access_key = table.text("access_key", required=True)
    secret_key = secret(table, "secret_key", environment, required=True)
    if not table.failed("endpoint", "bucket"):
        try:
            S3Log(endpoint, bucket, prefix, Credentials(access_key, secret_key, region)).close()
        except BadInput as error:
            table.refuse("endpoint" if error.code == "bad_endpoint" else "bucket", error.reason, error.remedy)
    table.no_more()
    prefix = f"{prefix.rstrip('/')}/" if prefix else ""
    return LogStoreSettings(
        kind=S3,
        endpoint=endpoint,
        bucket=bucket,
        prefix=prefix,
        region=region,
        access_key=access_key,
        secret_key=secret_key,
    )


def read_retention(audit: Reader) -> dict[str, int]:
    """Days by class of event; what isn't named is kept for ever."""
    table = audit.table("retention")
    days = {str(kind): table.number(str(kind), 0, at_least=0, at_most=_LONGEST, unit="days") for kind in Retention}
    table.no_more()
    return {kind: number for kind, number in days.items() if number}
