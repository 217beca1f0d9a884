"""Releases: the ledger that says which artefact may vote, and everything that led to it."""
