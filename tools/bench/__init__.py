"""Benchmarks: `python -m tools.bench [NAME ...]`. They print tables and write nothing outside a temporary directory.

A benchmark is a module with `run(bench, large, quick)`, entered in `tools.bench.__main__`. Everything runs pinned to
one core, contenders take turns, and what counts are ratios within a run.
"""
