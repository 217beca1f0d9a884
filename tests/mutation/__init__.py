"""Mutation testing of the gates; `make mutants`."""

import os

# Before numpy is loaded: a fork of a process with a pool of threads may wait for ever for one that it does not have.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
