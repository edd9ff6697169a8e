"""Sessions at rest: what is the person's is sealed to the session's token and account, so no two can be exchanged."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from rempart.crypto.aead import seal, unseal

from .model import Kind, Session, Stored


class _Data(msgspec.Struct, frozen=True, array_like=True):
    kind: Kind
    epoch: int
    amr: tuple[str, ...]
    auth_time: float
    key: str | None
    network: str
    user_agent: str
    locale: str
    device_key: str = ""
    bound_at: float = 0.0


def sealed(session: Session, token_hash: bytes, key: bytes) -> Stored:
    data = _Data(
        session.kind,
        session.epoch,
        session.amr,
        session.auth_time,
        session.key,
        session.network,
        session.user_agent,
        session.locale,
        session.device_key,
        session.bound_at,
    )
    stored = Stored(
        token_hash, session.id, session.account_id, session.created_at, session.seen_at, session.ends_at, b""
    )
    return replace(stored, sealed=seal(key, msgspec.msgpack.encode(data), _context(stored)))


def opened(stored: Stored, key: bytes) -> Session:
    """Raises Integrity `seal_broken` when the store's content was changed."""
    data = msgspec.msgpack.decode(unseal(key, stored.sealed, _context(stored)), type=_Data)
    return Session(
        id=stored.id,
        account_id=stored.account_id,
        kind=data.kind,
        epoch=data.epoch,
        amr=data.amr,
        auth_time=data.auth_time,
        key=data.key,
        network=data.network,
        user_agent=data.user_agent,
        locale=data.locale,
        created_at=stored.created_at,
        seen_at=stored.seen_at,
        ends_at=stored.ends_at,
        device_key=data.device_key,
        bound_at=data.bound_at,
    )


def _context(stored: Stored) -> bytes:
    return b"\0".join((b"people/session", stored.token_hash, stored.id.encode(), stored.account_id.encode()))
