"""The sequencer with its log in PostgreSQL: each event once across kills, checked from outside."""

from __future__ import annotations

import json
import signal
from collections import Counter
from pathlib import Path

import httpx
import psycopg
from psycopg.conninfo import conninfo_to_dict
from tests.integration.test_sequencer import decision, rempart
from tests.postgres import postgres
from tests.support import eventually, short_directory
from tests.support_sequencer import SequencerUnderTest, over_tcp

from rempart.audit.journal import Journal
from rempart.protocols.ocsf import encode


def test_killed_again_and_again_each_event_is_in_the_log_once(tmp_path: Path) -> None:
    with postgres() as conninfo, short_directory("rpp") as state:
        under_test = SequencerUnderTest(state, store={"kind": conninfo})
        journal = Journal(under_test.journals / "pdp", "pdp")
        written = []
        try:
            for round in range(4):
                under_test.start()
                for number in range(300):
                    written.append(f"dec_{round}_{number}")
                    journal.append(encode(decision(written[-1]), "pdp"))
                    if number % 25 == 24:
                        journal.commit()
                under_test.stop(signal.SIGKILL)
            under_test.start()
            with under_test.client() as client:
                eventually(lambda: client.get(f"/events/{written[-1]}").status_code == 200, within=20)
                assert Counter(ids(client)) == Counter(written)
            key = ["--key", str(under_test.data / "log.vkey")]
            proof = rempart(state, "audit", "prove", written[7])
            (tmp_path / "proof.json").write_text(proof.stdout)
            assert rempart(tmp_path, "audit", "verify", str(tmp_path / "proof.json"), *key).returncode == 0
            with over_tcp(under_test) as url:
                watched = rempart(tmp_path, "audit", "monitor", url, *key, "--once", "--json")
            assert watched.returncode == 0, watched.stdout
            assert json.loads(watched.stdout)["size"] >= len(written)
            assert not (under_test.data / "log").exists()

            settings = '[app]\nname = "bank"\ntrust_domain = "bank.test"\n[audit]\nstorage = "{}"\n'
            directory = conninfo_to_dict(conninfo)["host"]
            where = f"postgresql://postgres@/postgres?host={directory}"
            (tmp_path / "rempart.toml").write_text(settings.format(where))
            whole = rempart(state, "audit", "verify", "--app", str(tmp_path), "--json")  # beside the writer
            assert whole.returncode == 0, whole.stderr + whole.stdout
            assert json.loads(whole.stdout)["size"] >= len(written)
            under_test.stop()
            with psycopg.connect(conninfo, autocommit=True) as db:
                change = "UPDATE rempart_log_file SET data = set_byte(data, 40, get_byte(data, 40) # 1) WHERE name = %s"
                assert db.execute(change, ("tile/entries/000",)).rowcount == 1
            changed = rempart(state, "audit", "verify", "--app", str(tmp_path), "--json")
            assert changed.returncode == 1, changed.stderr
            assert "tile/0/000: hash 0 is not the one of event 0" in json.loads(changed.stdout)["problems"]
        finally:
            journal.close()
            under_test.close()


def ids(client: httpx.Client) -> list[str]:
    """Of all decisions."""
    found: list[str] = []
    query: dict[str, str | int] = {"type": "decision", "limit": 1000}
    while True:
        page = client.get("/search", params=query).json()
        found += [event["id"] for event in page["events"]]
        if page["next"] is None:
            return found
        query["before"] = page["next"]
