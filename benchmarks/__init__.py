"""Benchmarks: one file a question, compared as ratios within one run. README.md holds the tables."""
