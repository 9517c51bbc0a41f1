"""Servers of others, started for tests: object stores."""
