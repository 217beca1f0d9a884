"""The rogues' gallery: seeded markets and known-bad and known-good models, to measure how often a rule errs."""
