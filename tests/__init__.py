"""Tests: statements about behaviour, made against real daemons, mounts and processes."""
