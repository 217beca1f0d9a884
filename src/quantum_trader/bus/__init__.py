"""Streams on Valkey or Redis: client, wire codecs, reading, writing, the embedded server."""
