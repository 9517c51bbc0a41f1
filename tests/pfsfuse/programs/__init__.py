"""Ordinary programs in an open commit."""
