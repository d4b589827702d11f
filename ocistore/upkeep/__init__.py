"""Keeping a store in order: collection, scrub, backup and rebuild."""
