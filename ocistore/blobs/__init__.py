"""Bytes: the contract of a pool, and the pool that keeps them in files. Knows no SQL."""
