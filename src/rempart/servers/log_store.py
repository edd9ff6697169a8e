"""The log's storage, as the settings say."""

from __future__ import annotations

from pathlib import Path

from rempart.audit.storage import DirectoryStorage, LogStorage
from rempart.wiring.audit_store import DIRECTORY, S3, LogStoreSettings


def open_storage(settings: LogStoreSettings, data_dir: Path, *, read_only: bool = False) -> LogStorage:
    """Raises Conflict `log_locked` where another process writes it, and Unavailable. `read_only`: beside a writer."""
    if settings.kind == DIRECTORY:
        return DirectoryStorage(data_dir / "log", data_dir / "state", lock=not read_only)
    if settings.kind == S3:
        from rempart.backends.aws_signature import Credentials
        from rempart.backends.s3_log import S3Log

        credentials = Credentials(settings.access_key, settings.secret_key, settings.region)
        return S3Log(settings.endpoint, settings.bucket, settings.prefix, credentials)
    from rempart.backends.postgres_log import PostgresLog

    return PostgresLog(settings.kind, read_only=read_only)
