"""How SQLite finds rows: each statement goes straight to those that it is about, whatever else the tables hold."""

import importlib
import pkgutil
import re

import pytest
from sqlalchemy import Delete, Select, Update
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.selectable import CompoundSelect
from state import catalog

import ocistore.catalog

LARGE = (
    "blobs|repository_blobs|manifests|edges|repository_edges|repository_manifests|tags|tag_events|lease_blobs|uploads"
)
"""Tables of a row for each blob, manifest or tag."""

ABOUT_ALL = {
    "blobs._bytes_of_live",  # for the progress of a backup
    "events._count",  # for the report of who forgets some
    "repositories._last_tag",  # counts the tags of a repository that is deleted
    "repositories._some_blobs",  # these empty one, a limited number of rows at a time
    "repositories._some_edges",
    "repositories._some_leased",
    "repositories._some_manifests",
    "repositories._some_tags",
    "repositories._some_uploads",
    "tags._all",
}
MODULES_ABOUT_ALL = {"rebuilding", "usage", "verification"}


def statements():
    for module in pkgutil.iter_modules(ocistore.catalog.__path__, "ocistore.catalog."):
        short = module.name.rpartition(".")[2]
        for name, value in vars(importlib.import_module(module.name)).items():
            for each in value if isinstance(value, tuple) else (value,):
                if isinstance(each, Select | CompoundSelect | Update | Delete):
                    yield pytest.param(each, f"{short}.{name}", id=f"{short}.{name}")


@pytest.mark.parametrize(("statement", "name"), list(statements()))
def test_a_statement_reads_no_rows_but_those_it_is_about(store, statement, name):
    sql = str(statement.compile(dialect=sqlite.dialect()))
    with catalog(store.root) as connection:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", [1] * sql.count("?"))]
    wide = [
        line
        for line in plan
        if re.match(rf"SCAN ({LARGE})\b", line) or re.match(rf"SEARCH ({LARGE}) .*\(repository_id=\?\)$", line)
    ]
    about_all = name in ABOUT_ALL or name.partition(".")[0] in MODULES_ABOUT_ALL
    assert wide == [] or about_all, plan
