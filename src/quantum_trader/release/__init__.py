"""Releases: the ledger of grants that says which artefact may vote."""
