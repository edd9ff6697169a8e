"""The stand-alone verifiers, Python and JavaScript, over the same vectors: each says what it must, and the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests import proof_vectors

import rempart.audit
from rempart.audit import verifier
from rempart.crypto.signing import verify_ed25519

HERE = Path(rempart.audit.__file__).parent
VECTORS: dict[str, Any] = json.loads(proof_vectors.FILE.read_text())
RIGHT = {case["name"]: case["right"] for case in VECTORS["cases"]}
RUN = f"""
import {{ readFileSync }} from "node:fs";
import {{ verifyProof, VerificationError }} from {json.dumps((HERE / "verifier.mjs").as_uri())};
const {{ key, cases }} = JSON.parse(readFileSync(0, "utf8"));
for (const [name, text] of cases) {{
  let answer;
  try {{ answer = {{ right: true, text: await verifyProof(text, key) }}; }}
  catch (error) {{ answer = {{ right: error instanceof VerificationError ? false : String(error) }}; }}
  console.log(JSON.stringify([name, answer]));
}}
"""


def by_javascript(cases: list[tuple[str, str]], key: str = VECTORS["key"]) -> dict[str, Any]:
    done = subprocess.run(
        ["node", "--no-warnings", "--input-type=module", "-e", RUN],
        input=json.dumps({"key": key, "cases": cases}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(line) for line in done.stdout.strip().split("\n"))


def by_python(text: str, key: str = VECTORS["key"]) -> Any:
    try:
        return verifier.verify_proof(json.loads(text), verifier.Key.parse(key), verify_ed25519)
    except (verifier.VerificationError, ValueError):
        return None


def test_the_vectors_are_what_their_maker_makes() -> None:
    assert proof_vectors.document() == VECTORS
    assert sum(RIGHT.values()) >= 45
    assert sum(not right for right in RIGHT.values()) >= 35


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_python(case: dict[str, Any]) -> None:
    event = by_python(json.dumps(case["proof"]))
    assert event == (case["proof"]["event"] if case["right"] else None)


def test_javascript() -> None:
    answers = by_javascript([(case["name"], json.dumps(case["proof"])) for case in VECTORS["cases"]])
    assert {name: answer["right"] for name, answer in answers.items()} == RIGHT
    assert answers["event 4 of 7"]["text"].encode() == proof_vectors.PAYLOADS[4]


@pytest.mark.parametrize("key", ["", "a+b+c", VECTORS["key"][:-4] + "AAA=", VECTORS["key"].replace("log.", "lag.")])
def test_a_key_that_isnt_one(key: str) -> None:
    proof = json.dumps(proof_vectors.document()["cases"][0]["proof"])
    assert by_python(proof, key) is None
    assert by_javascript([("it", proof)], key) == {"it": {"right": False}}


def test_any_character_changed_is_noticed_by_both_alike() -> None:
    """One change in every 7th place of a proof: both agree, and accept only what reads as the very same proof."""
    text = json.dumps(VECTORS["cases"][20]["proof"])
    changed = {}
    for place in range(0, len(text), 7):
        for put in ("0", "A", '"', ""):
            other = text[:place] + put + text[place + 1 :]
            if other != text:
                changed[f"{place} {put}"] = other
    answers = by_javascript(list(changed.items()))
    python = {name: by_python(other) is not None for name, other in changed.items()}
    assert {name: answer["right"] for name, answer in answers.items()} == python
    for name in (name for name, right in python.items() if right):
        assert json.loads(changed[name])["event"] == json.loads(text)["event"], name


def test_the_script(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(VECTORS["key"] + "\n")
    for case, status in ((VECTORS["cases"][3], 0), (VECTORS["cases"][-1], 1)):
        (tmp_path / "proof.json").write_text(json.dumps(case["proof"]))
        for command in (
            ["node", "--no-warnings", str(HERE / "verifier.mjs")],
            [sys.executable, str(HERE / "verifier.py")],
        ):
            done = subprocess.run(
                [*command, str(tmp_path / "proof.json"), str(tmp_path / "key")], capture_output=True, text=True
            )
            assert done.returncode == status, done.stderr
            assert not status or done.stderr.startswith("wrong: ")
    assert subprocess.run(["node", str(HERE / "verifier.mjs")], capture_output=True).returncode == 2
