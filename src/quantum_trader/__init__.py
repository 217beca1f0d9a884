"""Quantum Trader's AI engine: four trained models vote; a retrained one earns its vote in shadow."""

__version__ = "0.1.0"
