"""Training: dataset, networks, fitting, export with proven parity."""
