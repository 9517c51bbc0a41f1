"""Contents of files as chunks, and chunks in packs."""
