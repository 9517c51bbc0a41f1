"""Test suites of others for file systems: getting them, running one on a directory, and counting what it says.

`python -m tools.suites` gets and builds them, `python -m tools.suites run SUITE DIR` runs one. They come from Debian's
packages and crates.io; programs that are built land in `$PFS_SUITES`, by default `~/.cache/pfs-suites`.
"""
