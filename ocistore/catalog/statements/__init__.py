"""What the catalog asks of its database, written with SQLAlchemy Core: a module beside each module of functions.

A name in capitals is a statement, or a tuple of statements that differ in a table only; the others are parts of them.
The functions know a statement by its name, and run its text, which ``tests/catalog/written.py`` writes down. So nothing
of this is imported by a program that uses a store.
"""
