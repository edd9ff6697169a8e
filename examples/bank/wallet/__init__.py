"""The bank's wallets: a double-entry ledger and who may move what in it."""
