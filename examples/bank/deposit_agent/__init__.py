"""A workload that only calls: it brings money into wallets from outside."""
