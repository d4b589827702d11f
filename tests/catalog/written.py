"""Write down what SQLAlchemy makes of the catalog's statements and tables: run ``python tests/catalog/written.py``.

The files lie beside the modules that read them (see ocistore/catalog/written.py). Constants are written into the text,
so that nothing but parameters is bound when a statement runs.
"""

import importlib
import pkgutil
import re

from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.sql import ClauseElement, Executable

import ocistore.catalog.statements
from ocistore.catalog import tables, written

AGAIN = "what is written down is not what the definitions say: run python tests/catalog/written.py"


class _Compiler(SQLiteCompiler):
    def visit_bindparam(self, bindparam, **options):
        if not bindparam.required:
            options["literal_binds"] = True
        return super().visit_bindparam(bindparam, **options)


class _Dialect(SQLiteDialect_pysqlite):
    statement_compiler = _Compiler


DIALECTS = {"sqlite": _Dialect(paramstyle="named")}
"""How the statements are compiled for each kind of database. Whoever adds one finds its files written by this."""


def definitions():
    """Every statement, by its name. Those that a tuple has are numbered."""
    found = {}
    for module in pkgutil.iter_modules(ocistore.catalog.statements.__path__):
        imported = importlib.import_module(f"ocistore.catalog.statements.{module.name}")
        for name, value in vars(imported).items():
            if not name.isupper():
                continue  # a part of others
            if isinstance(value, tuple) and all(_is_statement(each) for each in value):
                found |= {f"{module.name}.{name}[{number}]": each for number, each in enumerate(value)}
            elif _is_statement(value):
                found[f"{module.name}.{name}"] = value
    return found


def _is_statement(value):
    return isinstance(value, Executable) and isinstance(value, ClauseElement)


def text_of(statement, dialect="sqlite"):
    """The text that is written down for a statement."""
    return re.sub(r" +$", "", str(statement.compile(dialect=DIALECTS[dialect])), flags=re.MULTILINE).strip()


def statements(dialect="sqlite"):
    """The whole file of statements."""
    blocks = (f"-- {name}\n{text_of(each, dialect)};\n" for name, each in sorted(definitions().items()))
    return "-- Written by tests/catalog/written.py.\n\n" + "\n".join(blocks)


def schema(dialect="sqlite"):
    """The whole file of tables and indexes, in an order in which they can be made."""
    made = []
    for declared in (*tables.metadata.sorted_tables, tables.version):
        made.append(CreateTable(declared))
        made.extend(CreateIndex(index) for index in sorted(declared.indexes, key=lambda index: str(index.name)))
    return "".join(f"{text_of(each, dialect)};\n" for each in made)


def main():
    for dialect in DIALECTS:
        for what, text in (("statements", statements(dialect)), ("schema", schema(dialect))):
            with open(written.path_of(what, dialect), "w", encoding="utf-8") as file:
                file.write(text)


if __name__ == "__main__":
    main()
