"""The record of the running bank: read and followed through the gateway, a person erased, the log's key rotated."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tests.integration.conftest import Running
from tests.support import eventually


def output(bank: Running, *arguments: str, **more: Any) -> Any:
    done = bank.run(*arguments, "--json", **more)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_erasing_an_account_erases_it_from_the_record_and_leaves_the_tree(bank: Running) -> None:
    added = output(bank, "user", "add", "--email", "forget.me@private.example", "--role", "user", "--name", "Forgetful")
    person = added["id"]

    def created() -> dict[str, Any]:
        events = output(bank, "audit", "search", "--type", "people.account_created", "--since", "5m")["events"]
        return next((event for event in events if (event.get("details") or {}).get("account") == person), {})

    eventually(created)
    assert created()["after"]["email"] == "forget.me@private.example"
    proof = output(bank, "audit", "prove", created()["id"])
    assert "forget.me" not in json.dumps(proof)
    output(bank, "user", "erase", "forget.me@private.example")
    eventually(lambda: "email" not in created()["after"])
    assert created()["after"]["id"] == person
    assert output(bank, "audit", "prove", created()["id"])["payload"] == proof["payload"]
    assert output(bank, "audit", "verify")["ok"] is True


def test_the_log_is_followed_through_the_gateway_by_an_auditor_over_a_rotation(bank: Running, tmp_path: Path) -> None:
    key = tmp_path / "log.vkey"
    key.write_text((bank.state / "data/sequencer/log.vkey").read_text())
    token = tmp_path / "token"
    token.write_text(bank.token("audit"))

    def look(*options: str) -> tuple[int, dict[str, Any]]:
        done = bank.run(
            "audit", "monitor", f"{bank.url}/logs/", "--key", str(key), "--memory", str(tmp_path / "seen"), "--once",
            "--json", "--token", str(token), "--ca", bank.ca, *options,
        )  # fmt: skip
        return done.returncode, json.loads(done.stdout) if done.stdout else {}

    code, first = look()
    assert (code, first["ok"], first["size"] > 10) == (0, True, True), first
    output(bank, "keys", "rotate", "--authority", "log", "--overlap", "3600")
    listed = output(bank, "keys", "list")["log_keys"]
    assert [one["signs"] for one in listed] == [True, True]
    assert listed[0]["until"] > time.time()
    code, second = look()
    assert (code, second["new_keys"]) == (0, [listed[-1]["key"]]), second
    token.write_text(bank.token("user"))
    code, refused = look()
    assert (code, [finding["kind"] for finding in refused["findings"]]) == (3, ["unreachable"])
    assert output(bank, "audit", "verify")["ok"] is True
