"""`python -m demo.probe METHOD PATH BODY`: asks the wallet as the workload that it is started as, and prints the
answer.
"""

from __future__ import annotations

import asyncio
import json
import sys

from rempart.sdk import RempartError, ServiceClient, new_id


async def probe(method: str, path: str, body: object) -> dict[str, object]:
    wallet = ServiceClient("wallet")
    try:
        answer = await wallet.ask(method, path, body=body, headers={"idempotency-key": new_id("key")})
    except RempartError as error:
        refusal = f"{error.reason} [{error.code}]"
        return {"status": error.status, "why": refusal, "decision_id": error.decision_id}
    finally:
        await wallet.close()
    return {"status": answer.status, "why": "", "decision_id": answer.headers.get("x-rempart-decision", "")}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(probe(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))))
