"""Imports point downwards only, read from the syntax of every module; and importing the library stays cheap."""

import ast
import functools
import importlib
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from processes import run_python

import ocistore

PACKAGE = Path(ocistore.__file__).parent
CHECKOUT = PACKAGE.parent

# Each room by its floor. A room may use what lies on lower floors, and itself.
FLOORS = (
    {"arguments", "errors", "filedescriptors", "forks", "refusals"},
    {"oci"},
    {"archives", "blobs", "catalog"},
    {"changes", "commit", "emptying", "lease", "moved", "opening", "pages", "parts", "thinning"}
    | {"repository", "store", "transaction", "upload"},
    {"layouts"},
    {"upkeep"},
    {"artifacts"},
    {"imagefiles"},
    {"cli", "http", "testing"},
    {"__main__"},
)
CORE = FLOORS[3]

# The front door reaches up, when it is asked to and not before.
REACHES_UP = {
    ("ocistore.store", "Store.export", "ocistore.layouts.exporting"),
    ("ocistore.store", "Store.export_in_place", "ocistore.layouts.exporting"),
    ("ocistore.store", "Store.import_", "ocistore.layouts.importing"),
    ("ocistore.store", "Store.backup", "ocistore.upkeep.backup"),
    ("ocistore.store", "Store.scrub", "ocistore.upkeep.scrub"),
    ("ocistore.store", "Store.compact", "ocistore.upkeep.compaction"),
    ("ocistore.store", "Store.prune_history", "ocistore.upkeep.history"),
    ("ocistore.store", "Store.gc", "ocistore.upkeep.collection"),
}

# What each room may use of other packages, beside the standard library; and of that what only some rooms may.
PACKAGES = {
    "oci": {"blake3"},
    "catalog": {"sqlalchemy", "alembic"},
    "cli": {"click"},
    "__main__": {"click"},
    "testing": {"pytest", "hypothesis"},
}
# Completion in a shell stays silent whatever a database raises, so the command line may name the driver's errors.
GUARDED = {"sqlite3": {"catalog", "cli"}}


@dataclass(frozen=True)
class Import:
    """One module imported by another."""

    module: str
    imported: str
    function: str | None = None
    """Where it stands, if not at the top of the module."""
    annotation: bool = False
    """Under TYPE_CHECKING: nothing is imported when the program runs."""


def imports(module, source):
    """Every import of a module, those inside functions and those for annotations included."""
    found = []

    def visit(node, function, annotation):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.extend(Import(module, name.name, function, annotation) for name in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{module} imports relatively"
                for name in child.names:
                    longer = f"{child.module}.{name.name}"
                    imported = longer if longer in _modules() else child.module
                    found.append(Import(module, imported, function, annotation))
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                visit(ast.Module(child.body, []), function, True)
                visit(ast.Module(child.orelse, []), function, annotation)
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                visit(child, f"{function}.{child.name}" if function else child.name, annotation)
            else:
                visit(child, function, annotation)

    visit(ast.parse(source), None, False)
    return found


@functools.cache
def _modules():
    """The path of every module of the package, by name."""
    return {
        ".".join(("ocistore", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
        if "_migrations" not in path.parts
    }


def room(module):
    """The room of one of our modules; None for the package itself, which only gives names to the outside."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


def floor(name):
    return next(number for number, rooms in enumerate(FLOORS) if name in rooms)


def violations(entry):
    """What is wrong with one import, in words."""
    here = room(entry.module)
    if here is None:
        return []
    said = f"{entry.module} imports {entry.imported}"
    package = entry.imported.partition(".")[0]
    if package == "ocistore":
        there = room(entry.imported)
        if there is None:
            return [] if here in {"cli", "testing"} else [f"{said}, the package around it"]
        if there == here or floor(there) < floor(here):
            return []
        if here in CORE and there in CORE:
            return []
        if entry.annotation and floor(there) > floor(here):
            return []
        if (entry.module, entry.function, entry.imported) in REACHES_UP:
            return []
        return [f"{said}, which is not below it"]
    if package in GUARDED:
        allowed = here in GUARDED[package]
    else:
        allowed = package in sys.stdlib_module_names or package in PACKAGES.get(here, ())
    return [] if allowed else [f"{said}, which is not its business"]


@functools.cache
def every_import():
    return [entry for module, path in sorted(_modules().items()) for entry in imports(module, path.read_text())]


def test_every_module_has_its_room():
    known = set().union(*FLOORS)
    assert {room(module) for module in _modules()} - {None} <= known


def test_imports_point_downwards_only():
    assert [said for entry in every_import() for said in violations(entry)] == []


def test_the_front_door_reaches_up_in_three_methods_only_and_there_it_does():
    assert {(entry.module, entry.function, entry.imported) for entry in every_import()} >= REACHES_UP


def test_no_module_needs_itself_to_be_imported():
    needs = {}
    for entry in every_import():
        if entry.function is None and not entry.annotation and entry.imported.startswith("ocistore."):
            needs.setdefault(entry.module, set()).add(entry.imported)
    done = set()

    def follow(module, path):
        assert module not in path, " → ".join((*path, module))
        if module not in done:
            for needed in sorted(needs.get(module, ())):
                follow(needed, (*path, module))
            done.add(module)

    for module in sorted(needs):
        follow(module, ())
    assert len(done) > 20


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        ("ocistore.oci.x", "import ocistore.blobs.paths", 1),
        ("ocistore.oci.x", "from ocistore.errors import OCIStoreError", 0),
        ("ocistore.oci.x", "from ocistore import Store", 1),
        ("ocistore.blobs.x", "from ocistore.catalog import tables", 1),
        ("ocistore.blobs.x", "import sqlite3", 1),
        ("ocistore.blobs.x", "import sqlalchemy", 1),
        ("ocistore.catalog.x", "from ocistore.blobs.paths import StorePaths", 1),
        ("ocistore.catalog.x", "if TYPE_CHECKING:\n    from ocistore.blobs.paths import StorePaths", 1),
        ("ocistore.catalog.x", "if TYPE_CHECKING:\n    from ocistore.store import Store", 0),
        ("ocistore.catalog.x", "if TYPE_CHECKING:\n    pass\nelse:\n    from ocistore.store import Store", 1),
        ("ocistore.catalog.x", "def f():\n    from ocistore.store import Store", 1),
        ("ocistore.catalog.x", "try:\n    from ocistore.store import Store\nexcept ImportError:\n    pass", 1),
        ("ocistore.store", "from ocistore.layouts.exporting import export_directory", 1),
        ("ocistore.store", "class Store:\n  def usage(self):\n    import ocistore.layouts.exporting", 1),
        ("ocistore.store", "class Store:\n  def export(self):\n    import ocistore.layouts.exporting", 0),
        ("ocistore.store", "class Store:\n  def export(self):\n    import ocistore.cli", 1),
        ("ocistore.store", "import click", 1),
        ("ocistore.store", "from sqlalchemy import select", 1),
        ("ocistore.store", "from ocistore.commit import commit", 0),
        ("ocistore.layouts.x", "from ocistore.cli import main", 1),
        ("ocistore.layouts.x", "from ocistore.store import Store", 0),
        ("ocistore.cli.x", "from ocistore import Store", 0),
        ("ocistore.cli.x", "import click, ocistore.layouts.exporting", 0),
    ],
)
def test_what_points_upwards_would_be_found(module, source, wrong):
    assert sum(len(violations(entry)) for entry in imports(module, source)) == wrong


# --- the environment --------------------------------------------------------------------------------------------------

ENVIRONMENT = re.compile(r"\benvironb?\b|\bgetenv|\bputenv|OCISTORE_|\benvvar")


def test_only_the_command_line_looks_at_the_environment():
    speaking = [
        str(path.relative_to(CHECKOUT))
        for top in (PACKAGE, CHECKOUT / "migrations")
        for path in top.rglob("*.py")
        if ENVIRONMENT.search(path.read_text())
    ]
    assert [name for name in speaking if not name.startswith("ocistore/cli/")] == []
    assert speaking != []


# --- the top level ----------------------------------------------------------------------------------------------------


def test_the_top_level_is_short():
    listed = subprocess.run(["git", "ls-files"], cwd=CHECKOUT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    assert {name.partition("/")[0] for name in listed.stdout.split("\n") if name} <= {
        ".ci",
        ".gitignore",
        "CHANGELOG.md",
        "LICENSE",
        "README.md",
        "alembic.ini",
        "benchmarks",
        "docs",
        "migrations",
        "ocistore",
        "pyproject.toml",
        "tests",
    }


# --- what is loaded ---------------------------------------------------------------------------------------------------

HEAVY = {
    "alembic",
    "blake3",
    "click",
    "django",
    "fastapi",
    "flask",
    "http",
    "hypothesis",
    "jinja2",
    "mako",
    "pytest",
    "sqlalchemy",
    "starlette",
    "uvicorn",
}

LOADED = """
import sys
from datetime import timedelta
import ocistore
from ocistore import *
loaded = lambda: print(" ".join(sorted({name.partition(".")[0] for name in sys.modules})))
loaded()
print("ocistore.layouts.exporting" in sys.modules, "ocistore.cli" in sys.modules)
with ocistore.Store.open(sys.argv[1]) as store:
    store.repository("app").put_blob(b"content")
    with store.transaction() as transaction:
        transaction.repository("app").put_blob(b"more")
    with store.repository("app").start_upload() as upload:
        upload.write(b"content")
    list(store.repository("app").uploads())
with ocistore.Store.open(sys.argv[1] + "-new") as store:
    repository = store.repository("app")
    config = repository.put_blob(b"{}")
    empty = b"application/vnd.oci.empty.v1+json"
    described = b'{"mediaType": "%b", "digest": "%b", "size": 2}' % (empty, config.digest.encode())
    media_type = b"application/vnd.oci.image.manifest.v1+json"
    content = b'{"schemaVersion": 2, "mediaType": "%b", "config": %b, "layers": []}' % (media_type, described)
    repository.put_manifest(content, tags=["v1"])
    repository.get_manifest("v1")
    list(repository.tags()), list(repository.history()), store.usage()
    with store.lease(ttl=timedelta(hours=1)) as lease:
        lease.keep("app", repository.resolve("v1").digest)
    repository.untag("v1")
    store.gc()
    store.delete_repository("app")
loaded()
import alembic, click
loaded()
"""


def test_a_store_at_work_loads_neither_sqlalchemy_nor_alembic_nor_click_nor_a_web_framework(tmp_path, empty_store):
    imported, reached_up, opened, everything = run_python(
        LOADED, shutil.copytree(empty_store, tmp_path / "store"), fresh=True
    ).splitlines()
    assert set(imported.split()) & HEAVY == set()
    assert set(opened.split()) & HEAVY == set()
    assert reached_up == "False False"
    assert {"alembic", "click", "sqlalchemy"} <= set(everything.split())


DEFINITIONS = re.compile(r"ocistore\.catalog\.(statements|tables|expressions)\b")


def test_only_definitions_import_definitions_so_that_no_store_needs_them():
    reaching = {
        (entry.module, entry.imported)
        for entry in every_import()
        if DEFINITIONS.match(entry.imported) and not DEFINITIONS.match(entry.module)
    }
    assert reaching == set()
    assert any(DEFINITIONS.match(entry.imported) for entry in every_import())


# --- the names of the package -----------------------------------------------------------------------------------------


def test_each_public_name_is_found_where_the_types_say_it_is():
    source = (PACKAGE / "__init__.py").read_text()
    typed = {
        name.name: node.module
        for branch in ast.parse(source).body
        if isinstance(branch, ast.If)
        for node in branch.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    assert typed == ocistore._HOMES
    assert sorted(typed) == ocistore.__all__
    for name, home in typed.items():
        assert getattr(ocistore, name) is getattr(importlib.import_module(home), name)


def test_names_are_listed_before_they_are_loaded():
    code = "import ocistore; print(set(ocistore.__all__) <= set(dir(ocistore)), 'Store' in vars(ocistore))"
    assert run_python(code, fresh=True) == "True False\n"


def test_the_package_has_no_other_names():
    with pytest.raises(AttributeError, match="'Stroe'"):
        ocistore.Stroe  # noqa: B018
