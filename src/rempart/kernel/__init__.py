"""The words everything else is written in: pure values, no I/O, imports nothing of ours."""
