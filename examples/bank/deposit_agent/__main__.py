"""`rempart run deposit-agent -- python -m deposit_agent --receiver ID --amount CENTS [--key KEY]`.

Prints the wallet's answer as JSON, or the refusal. Exit code 0 done · 1 refused · 2 bad usage · 3 not reachable.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from typing import Any

from rempart.sdk import RempartError, ServiceClient, new_id


async def deposit(wallet: ServiceClient, receiver: str, amount: int, key: str) -> dict[str, Any]:
    """`{transaction_id, status, decision_id}`; raises RempartError."""
    body = {"receiver_id": receiver, "amount": amount}
    try:
        answer = await wallet.ask("POST", "/deposit", body=body, headers={"idempotency-key": key})
        told = wallet.read(answer.body, dict[str, Any])
        return {**told, "decision_id": answer.headers.get("x-rempart-decision", "")}
    finally:
        await wallet.close()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="deposit_agent", description="Deposit money into a wallet.")
    parser.add_argument("--receiver", required=True, help="the person's id")
    parser.add_argument("--amount", required=True, type=int, help="in cents")
    parser.add_argument("--key", default="", help="idempotency key; the same again when a deposit is retried")
    given = parser.parse_args(arguments)
    key = given.key or new_id("dep")
    try:
        answer = asyncio.run(deposit(ServiceClient("wallet"), given.receiver, given.amount, key))
    except RempartError as error:
        refusal = {"code": error.code, "detail": error.reason, "status": error.status, "remedy": error.remedy}
        if error.decision_id:
            refusal["decision_id"] = error.decision_id
        print(json.dumps(refusal))
        return error.exit_code
    print(json.dumps({**answer, "idempotency_key": key}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
