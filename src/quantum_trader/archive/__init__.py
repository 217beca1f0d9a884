"""Parquet history of decisions."""
