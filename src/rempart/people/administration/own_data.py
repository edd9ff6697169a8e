"""What is kept about one person, for themselves (GDPR articles 15 and 20), beside what other rooms keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..model import Account
from ..ports import RefreshStore
from .scim.user_document import ScimStore


@dataclass(frozen=True)
class OwnData:
    families: RefreshStore
    scim: ScimStore

    async def of(self, account: Account) -> dict[str, Any]:
        """`account`, `logins` (grants to programs, ended ones too until they are swept), `provisioned` (by SCIM)."""
        kept = await self.scim.get(account.id)
        return {
            "account": account.public(),
            "logins": [family.public() for family in await self.families.of_account(account.id)],
            "provisioned": {
                "user_name": kept.user_name,
                "external_id": kept.external_id,
                "name": dict(kept.names),
            }
            if kept
            else None,
        }
