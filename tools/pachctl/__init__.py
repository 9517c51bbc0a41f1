"""The command line client.

`main` finds a command in `registry`, which knows them all without importing them, and imports its module. Commands are
grouped by what they are about: `repos`, `commits`, `files`, `pipelines`, `jobs`, `cluster`. `terminal` reads their
lines, calls the daemon and prints.
"""
