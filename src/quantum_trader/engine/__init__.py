"""The deciding service: loop, batches, shadow process, replay, log lines."""
