"""An upstream authority on disk: which files are refused, and how one root takes over from another."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.unit.servers.test_root_keeper import DOMAIN, KEY, Machine
from tests.upstream_ca import Ca, make_ca, write_upstream

from rempart.crypto.x509 import pem_to_ders
from rempart.kernel.errors import Conflict, Unavailable
from rempart.servers.disk_upstream import DiskUpstream
from rempart.servers.keys_at_start import ensure_roots
from rempart.servers.root_keeper import OVERLAP
from rempart.servers.root_store import RootStore
from rempart.workloads import authority

ROOT = make_ca("root")


def test_a_root_alone_and_an_intermediate_below_one_can_sign(tmp_path: Path) -> None:
    alone = write_upstream(tmp_path, DOMAIN, ROOT).read()
    assert (alone.root, alone.chain, alone.signer) == (ROOT.pem(), "", ROOT.pem())
    middle = make_ca("middle", ROOT, kind="2048", path_length=0 + 1)
    below = write_upstream(tmp_path / ".", DOMAIN, middle, bundle=ROOT) if unlocked(tmp_path) else None
    assert below is not None
    assert (below.read().root, below.read().chain) == (ROOT.pem(), middle.pem())
    unlocked(tmp_path)
    whole = write_upstream(tmp_path, DOMAIN, middle, ROOT).read()
    assert (whole.root, whole.chain) == (ROOT.pem(), middle.pem())


def unlocked(directory: Path) -> bool:
    (directory / "ca.key").chmod(0o600)
    return True


OTHER = make_ca("other")


@pytest.mark.parametrize(
    ("chain", "bundle", "says"),
    [
        ((make_ca("short", path_length=0),), None, "path length"),
        ((make_ca("below", ROOT, path_length=0),), ROOT, "path length"),
        ((make_ca("leaf", ROOT, is_ca=False),), ROOT, "not that of a CA"),
        ((make_ca("old", days=-1),), None, "expired"),
        ((make_ca("foreign", uri="spiffe://partner.example"),), None, "spiffe://partner.example"),
        ((make_ca("weak", kind="P-224"),), None, "P-256"),
        ((make_ca("orphan", ROOT),), None, "no root"),
        ((make_ca("stranger", ROOT),), OTHER, "no root"),
        ((make_ca("mixed", ROOT), OTHER), None, "don't follow"),
    ],
    ids=["short", "below", "leaf", "old", "foreign", "weak", "orphan", "stranger", "mixed"],
)
def test_what_can_not_stand_above_us_is_refused(
    tmp_path: Path, chain: tuple[Ca, ...], bundle: Ca | None, says: str
) -> None:
    with pytest.raises(Unavailable, match=says) as refusal:
        write_upstream(tmp_path, DOMAIN, *chain, bundle=bundle).read()
    assert refusal.value.code == "bad_upstream"


def test_our_own_uri_is_no_reason_to_refuse(tmp_path: Path) -> None:
    assert write_upstream(tmp_path, DOMAIN, make_ca("own", uri=f"spiffe://{DOMAIN}")).read()


@pytest.mark.parametrize("how", ["open", "absent", "other", "text", "huge"])
def test_a_key_that_is_not_the_owners_alone_or_not_this_ones_is_refused(tmp_path: Path, how: str) -> None:
    upstream = write_upstream(tmp_path, DOMAIN, ROOT)
    unlocked(tmp_path)
    if how == "open":
        upstream.key.chmod(0o440)
    elif how == "absent":
        upstream.key.unlink()
    else:
        upstream.key.write_text({"other": OTHER.key_pem(), "text": "é", "huge": "x" * 70000}[how])
    with pytest.raises(Unavailable):
        upstream.read()


class Company(Machine):
    """A machine whose rempart.toml names an upstream authority, or not."""

    upstream: DiskUpstream | None = None

    def write(self, *chain: Ca) -> None:
        if (self.path / "ca.key").exists():
            unlocked(self.path)
        self.upstream = write_upstream(self.path, DOMAIN, *chain)

    def signed_by(self) -> bytes:
        return pem_to_ders(asyncio.run(self.keeper.signer("spiffe")).certificate)[0]


@pytest.fixture
def company(tmp_path: Path) -> Company:
    return Company(tmp_path)


def der(ca: Ca) -> bytes:
    return pem_to_ders(ca.pem())[0]


def go_through(company: Company) -> None:
    assert company.step()["phase"] == "prepared"
    company.publish()
    assert company.step(OVERLAP)["phase"] == "retiring"
    assert company.step(111)["phase"] == "steady"


def test_from_our_own_root_to_the_companys_and_back(company: Company) -> None:
    (own,) = company.public()
    company.write(ROOT)
    company.start()
    assert company.signed_by() == own
    go_through(company)
    assert company.public() == [der(ROOT)] == [company.signed_by()]
    company.upstream = None
    company.start()
    assert company.step()["phase"] == "prepared"
    assert company.signed_by() not in (own, der(ROOT))  # its key is not ours to use any more
    assert company.step()["phase"] == "retiring"


def test_with_an_upstream_from_the_first_start_there_is_no_key_of_ours(tmp_path: Path) -> None:
    for name in ("secrets", "tls", "trust"):
        (tmp_path / "state" / name).mkdir(parents=True)
    upstream = write_upstream(tmp_path, DOMAIN, ROOT)
    store = RootStore(tmp_path / "state", upstream)
    assert ensure_roots(store, DOMAIN, KEY).spiffe == ROOT.pem()
    assert not list((tmp_path / "state" / "secrets").glob("spiffe-root*.sealed"))
    unlocked(tmp_path)
    write_upstream(tmp_path, DOMAIN, OTHER)  # replaced while we were down: what peers trust is remembered
    assert ensure_roots(store, DOMAIN, KEY).spiffe == ROOT.pem()


def test_new_files_are_taken_over_with_an_overlap(company: Company) -> None:
    company.write(ROOT)
    company.start()
    go_through(company)
    assert company.step(30)["phase"] == "steady"
    company.write(OTHER)
    company.start()
    go_through(company)
    assert company.public() == [der(OTHER)]


def test_an_issuing_ca_that_is_due_meanwhile_is_signed_by_the_new_root_at_once(company: Company) -> None:
    company.write(ROOT)
    company.start()
    go_through(company)
    company.write(OTHER)
    company.start()
    assert company.step()["phase"] == "prepared"
    assert company.signed_by() == der(OTHER)
    assert company.step()["phase"] == "retiring"


def test_on_demand_the_companys_root_is_replaced_only_by_another_one(company: Company) -> None:
    company.write(ROOT)
    company.start()
    go_through(company)
    with pytest.raises(Conflict) as refusal:
        company.rotate()
    assert refusal.value.code == "upstream_root"


@pytest.mark.parametrize("kind", ["P-256", "P-384", "2048"])
def test_an_issuing_ca_below_it_names_its_key_as_it_does_itself(kind: str) -> None:
    from rempart.crypto.x509 import Certificate, EcKey, ders_to_pem

    ca = make_ca("root", kind=kind)
    signed = authority.sign_issuing(
        "spiffe",
        DOMAIN,
        root_certificate_pem=ca.pem(),
        root_key_pem=ca.key_pem(),
        csr_pem=EcKey.generate().request().decode(),
        ttl=60,
    )
    assert Certificate.parse(pem_to_ders(signed)[0])
    assert b"root" in pem_to_ders(signed)[0]
    assert ders_to_pem([der(ca)]).decode() == ca.pem()
