"""The text of every statement, as this package has it in files: a store that is open needs no SQLAlchemy.

Statements are written with SQLAlchemy Core, in ``catalog/statements``: one module of them beside each module of the
functions that run them. Importing SQLAlchemy and compiling them takes five times as long as everything else that
opening a store does. So what Core makes of them is written down, for each dialect in a file of its own;
``tests/catalog/written.py`` writes the files, and a test holds each statement in them to what Core makes of it now.
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Final

from ocistore.errors import StorageError
from ocistore.refusals import is_refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

DIALECTS: Final = ("sqlite",)
"""Of which there are files. Each kind of connection takes the text in its own."""


class Statement:
    """A statement that a connection can run."""

    __slots__ = ("name", "texts")

    def __init__(self, name: str, texts: Mapping[str, str]) -> None:
        self.name = name
        self.texts = texts
        """By dialect."""

    def __repr__(self) -> str:
        return f"Statement({self.name})"


class Statements:
    """The statements of one module of ``catalog/statements``, by their names there."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Statement:
        """Find a statement, and keep it here."""
        found = _find(f"{self._module}.{name}")
        if found is None:
            raise AttributeError(f"no statement {self._module}.{name} is written down")
        setattr(self, name, found)
        return found

    def each(self, name: str) -> tuple[Statement, ...]:
        """Return statements that have one name, because they differ in a table only."""
        key = f"each {name}"
        kept: tuple[Statement, ...] | None = self.__dict__.get(key)
        if kept is None:
            numbered = (_find(f"{self._module}.{name}[{number}]") for number in range(_MOST))
            kept = self.__dict__[key] = tuple(found for found in numbered if found is not None)
            if not kept:
                raise AttributeError(f"no statements {self._module}.{name} are written down")
        return kept


_MOST: Final = 50
"""How many statements have one name: one for each table at most."""


def path_of(what: str, dialect: str) -> str:
    """Return the path of the file with the texts of all ``statements``, or with the ``schema``."""
    return os.path.join(os.path.dirname(__file__), f"{what}.{dialect}.sql")


def schema(dialect: str) -> list[str]:
    """Return the statements that make the tables and indexes of an empty catalog."""
    return _read("schema", dialect).split(";\n")[:-1]


def _find(name: str) -> Statement | None:
    texts = {dialect: found[name] for dialect in DIALECTS if name in (found := texts_in(dialect))}
    return Statement(name, texts) if texts else None


@functools.cache
def texts_in(dialect: str) -> dict[str, str]:
    """Return the text of every statement, by the name of its module and its own."""
    named = (block.split("\n", 1) for block in _read("statements", dialect).split("\n-- ")[1:])
    return {name: text.rstrip(";\n") for name, text in named}


def _read(what: str, dialect: str) -> str:
    path = path_of(what, dialect)
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:  # as where no more files can be opened
        if not is_refusal(error):
            raise
        raise StorageError(path, errno=error.errno, reason=error.strerror or str(error)) from error
