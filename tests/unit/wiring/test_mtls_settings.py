"""`[gateway] mtls_listen` and `mtls_client_ca` of rempart.toml."""

from __future__ import annotations

from pathlib import Path

import pytest

from rempart.crypto.x509 import EcKey, self_sign_root, sign_server
from rempart.kernel.errors import BadInput
from rempart.wiring.mtls_settings import MtlsSettings
from rempart.wiring.settings import load

APP = '[app]\nname = "bank"\ntrust_domain = "bank.example"\n[gateway]\n'


def read(tmp_path: Path, gateway: str) -> MtlsSettings:
    (tmp_path / "rempart.toml").write_text(APP + gateway)
    return load(tmp_path).mtls


def test_there_is_no_such_entrance_unless_it_is_asked_for(tmp_path: Path) -> None:
    assert read(tmp_path, "").listen is None


def test_what_is_said_counts(tmp_path: Path) -> None:
    root = self_sign_root(EcKey.generate(), common_name="Partners", trust_domain=None, now=1e9, ttl=1e9)
    (tmp_path / "ca.pem").write_bytes(root.pem())
    settings = read(tmp_path, 'mtls_listen = "0.0.0.0:9443"\nmtls_client_ca = "ca.pem"\n')
    assert settings.listen == ("0.0.0.0", 9443)
    assert settings.authorities == root.pem().decode()


@pytest.mark.parametrize(
    ("wrong", "word", "line"),
    [
        ('mtls_listen = "0.0.0.0:0"', "must know this port", 5),
        ('mtls_listen = "nonsense"', "is not an address", 5),
        ('mtls_client_ca = "ca.pem"', "asked for at mtls_listen only", 5),
        ('mtls_listen = "127.0.0.1:9443"\nmtls_client_ca = "missing.pem"', "can't be read", 6),
        ('mtls_listen = "127.0.0.1:9443"\nmtls_client_ca = "rempart.toml"', "these are no PEM certificates", 6),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_line(tmp_path: Path, wrong: str, word: str, line: int) -> None:
    with pytest.raises(BadInput) as refused:
        read(tmp_path, wrong)
    assert word in refused.value.reason
    assert f"rempart.toml:{line}: " in refused.value.reason


def test_a_certificate_of_nobody_who_may_issue_is_no_authority(tmp_path: Path) -> None:
    key = EcKey.generate()
    root = self_sign_root(key, common_name="Partners", trust_domain=None, now=1e9, ttl=1e9)
    leaf = sign_server(key, ("localhost",), issuing=root, issuing_key=key, now=1e9, ttl=1e6)
    (tmp_path / "ca.pem").write_bytes(root.pem() + leaf.pem())
    with pytest.raises(BadInput, match="is no authority"):
        read(tmp_path, 'mtls_listen = "127.0.0.1:9443"\nmtls_client_ca = "ca.pem"')
