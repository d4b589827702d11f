"""Keeping a store in order: garbage collection, scrub, backup and rebuild."""
