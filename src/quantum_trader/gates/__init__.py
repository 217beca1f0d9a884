"""Statistics of the gates, pure functions on arrays: no I/O, no clock."""
