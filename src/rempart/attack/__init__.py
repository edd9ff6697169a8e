"""The simulated adversary: a black box that knows the system's addresses, a few accounts, and nothing of its code."""
