"""Values and rules, pure: no I/O, no clock, no environment, no randomness without a seed."""
