"""`rempart VERB`: one module per command group. Only what a command needs is imported, so that `--help` is quick."""
