"""Looking after a root: collecting garbage, checking and repairing, newer formats, moving packs."""
