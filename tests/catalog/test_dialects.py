"""Statements mean the same on every database: what one writes its own way comes from ``expressions.py`` alone."""

import ast
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
from sqlalchemy import JSON, Delete, Insert, Integer, Select, Text, Update, column, select, table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.selectable import CompoundSelect

import ocistore.catalog
from ocistore.catalog.expressions import array, greatest, in_order, member, upsert, walk

DIALECTS = {"sqlite": sqlite.dialect(), "postgresql": postgresql.dialect()}

ONLY_SQLITE = re.compile(
    r"\b(json_each|json_extract|CROSS JOIN|GLOB|INSERT OR|rowid|pragma_\w+|IFNULL"
    r"|(?:max|min)(?=\((?:[^()]|\([^()]*\))*,))\b"
)

OF_THIS_DATABASE = {"expressions", "connection", "migrate", "tables"}
"""What may name a kind of database: the expressions, and what runs or makes the tables of SQLite."""


def modules():
    return [each.name for each in pkgutil.walk_packages(ocistore.catalog.__path__, "ocistore.catalog.")]


def statements():
    seen = set()
    for name in modules():
        for said, value in vars(importlib.import_module(name)).items():
            for each in value if isinstance(value, tuple) else (value,):
                if isinstance(each, Select | CompoundSelect | Update | Delete | Insert) and id(each) not in seen:
                    seen.add(id(each))
                    yield pytest.param(each, id=f"{name.rpartition('.')[2]}.{said}")


def text_of(statement, dialect):
    """The text of a statement in a line, without types of parameters, which only some versions of SQLAlchemy add."""
    return re.sub(r"::[A-Z]+", "", " ".join(str(statement.compile(dialect=DIALECTS[dialect])).split()))


@pytest.mark.parametrize("statement", list(statements()))
def test_a_statement_has_a_text_for_postgresql_with_nothing_of_sqlite_in_it(statement):
    assert text_of(statement, "sqlite")
    assert ONLY_SQLITE.findall(text_of(statement, "postgresql")) == []


def test_what_is_looked_for_is_in_the_text_for_sqlite():
    found = {word for each in statements() for word in ONLY_SQLITE.findall(text_of(each.values[0], "sqlite"))}
    assert found == {"json_each", "json_extract", "CROSS JOIN", "max"}
    assert ONLY_SQLITE.findall("SELECT max(a, b), max(c)") == ["max"]


def test_no_other_module_names_a_kind_of_database():
    named = set()
    for name in modules():
        path = Path(importlib.import_module(name).__file__)
        for node in ast.walk(ast.parse(path.read_text())):
            imported = node.module if isinstance(node, ast.ImportFrom) else None
            if imported is not None and imported.startswith("sqlalchemy.dialects"):
                named.add(name.rpartition(".")[2])
            if isinstance(node, ast.Attribute) and node.attr.startswith(("json_", "jsonb_", "group_concat")):
                named.add(name.rpartition(".")[2])
    assert named <= OF_THIS_DATABASE
    assert "expressions" in named


t = table("t", column("id", Integer), column("name", Text))

begin = select(t.c.id).where(t.c.id == 1).cte("up", recursive=True)
above = [select(begin.c.id + number).where(begin.c.id < 9) for number in (1, 2)]

WRITTEN = {
    "walk": (
        select(walk(begin, *above).c.id),
        "UNION SELECT up.id + ? AS anon_1 FROM up WHERE up.id < ? UNION SELECT up.id + ? AS",
        " UNION (WITH up AS (SELECT * FROM up) SELECT up.id + ",
    ),
    "array of numbers": (
        select(array("ids").c.value),
        "SELECT anon_1.value FROM json_each(?) AS anon_1",
        "FROM (SELECT CAST(element #>> '{}' AS BIGINT) AS value, number - 1 AS key FROM jsonb_array_elements(CAST(",
    ),
    "array of texts": (
        select(array("names", Text).c.value),
        "SELECT anon_1.value FROM json_each(?) AS anon_1",
        "CAST(%(names)s AS JSONB)) WITH ORDINALITY AS each (element, number)) AS anon_1",
    ),
    "array of arrays": (
        select(member(array("rows", JSON), 0), member(array("rows", JSON), 1, Text)).select_from(array("rows", JSON)),
        "json_extract(anon_2.value, '$[0]')",
        "CAST(anon_2.value ->> 0 AS BIGINT)",
    ),
    "larger of two": (select(greatest(t.c.id, 7)), "SELECT max(t.id, ?) AS", "SELECT greatest(t.id, %("),
    "order": (
        select(t.c.id).select_from(in_order(array("ids"), (t, t.c.id == array("ids").c.value))),
        ") AS anon_1 CROSS JOIN t ON t.id = anon_2.value",
        ") AS anon_1 JOIN t ON t.id = anon_2.value",
    ),
    "upsert": (
        upsert(t).values(id=1).on_conflict_do_nothing(),
        "INSERT INTO t (id) VALUES (?) ON CONFLICT DO NOTHING",
        "INSERT INTO t (id) VALUES (%(id)s) ON CONFLICT DO NOTHING",
    ),
}


@pytest.mark.parametrize("what", WRITTEN)
def test_each_database_has_its_own_way(what):
    statement, *texts = WRITTEN[what]
    for dialect, text in zip(DIALECTS, texts, strict=True):
        assert text in text_of(statement, dialect)


def test_expressions_of_different_types_are_different_to_a_cache_of_texts():
    texts = {text_of(select(array("a", of).c.value), "postgresql") for of in (Integer, Text, JSON)}
    assert len(texts) == 3
    keys = {select(array("a", of).c.value)._generate_cache_key().key for of in (Integer, Text, JSON)}
    assert len(keys) == 3
