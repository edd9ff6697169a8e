"""The bank's payments: who may pay whom how much. It keeps nothing: money and idempotency keys live in the wallet."""
