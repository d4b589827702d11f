"""Imports point downwards only, read from the syntax of every module; and importing the library stays cheap."""

import ast
import functools
import importlib
import re
import shutil
import subprocess
import sys

import pytest
from layering import CHECKOUT, PACKAGE, TABLES, circles, every_import, floors, imports, modules, room
from processes import run_python

import ocistore

# The rooms from the ground up. The page is in the checkout, as these tests are.
PAGE = (CHECKOUT / "docs" / "architecture.md").read_text()
FLOORS = floors(PAGE)
FACADE = "store"

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

# What the suite of catalogs in ocistore.testing tests.
CATALOG = {f"ocistore.catalog.{name}" for name in ("contract", "connection", "parameters", "written")}


def floor(name):
    return next(number for number, rooms in enumerate(FLOORS) if name in rooms)


FOUNDATION = set().union(*FLOORS[: floor("archives") + 1])
"""What knows of no store: every room may use it."""
UPPER = set().union(*FLOORS[floor(FACADE) + 1 :])
"""What uses a store as everybody does."""
BESIDE = FLOORS[floor(FACADE)] - {FACADE}
"""What everybody may import beside the names of the façade."""


def _is_directory(name):
    return (PACKAGE / name).is_dir()


@functools.cache
def _public(package):
    """The names that everybody may use of a package."""
    return {*getattr(importlib.import_module(package), "__all__", ()), "__version__"}


def _wrong_above(here, entry):
    """What is wrong with an import of ours by a room above the façade; None where it is what everybody may use."""
    there = room(entry.imported)
    if there in FOUNDATION or (here == "testing" and entry.imported in CATALOG):
        return None
    if there is not None and entry.imported != f"ocistore.{there}":
        return "which is not public"
    if there is not None and there not in UPPER | BESIDE:
        return "which is not public"
    if there is not None and floor(there) > floor(here):
        return "which is not below it"
    return None if entry.name is None or entry.name in _public(entry.imported) else f"whose {entry.name} is not public"


def violations(entry):
    """What is wrong with one import, in words."""
    here = room(entry.module)
    if here in {None, "__main__"}:
        return []
    said = f"{entry.module} imports {entry.imported}"
    package, _, _ = entry.imported.partition(".")
    if package == "ocistore":
        there = room(entry.imported)
        if there == here:
            return []
        if here in UPPER:
            wrong = _wrong_above(here, entry)
            return [] if wrong is None else [f"{said}, {wrong}"]
        if there is None:
            return [f"{said}, the package around it"]
        beside = floor(there) == floor(here) and not _is_directory(here)
        return [] if floor(there) < floor(here) or beside else [f"{said}, which is not below it"]
    if package in GUARDED:
        allowed = here in GUARDED[package]
    else:
        allowed = package in sys.stdlib_module_names or package in PACKAGES.get(here, ())
    return [] if allowed else [f"{said}, which is not its business"]


def reached(module, source):
    """The names by which a module reaches into packages of ours that it has as a whole, and that are not public."""
    packages = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            packages |= {
                (name.asname or name.name): name.name for name in node.names if name.name.startswith("ocistore")
            }
        elif isinstance(node, ast.ImportFrom) and node.module == "ocistore":
            longer = {(name.asname or name.name): f"ocistore.{name.name}" for name in node.names}
            packages |= {name: package for name, package in longer.items() if package in modules()}
    return [
        f"{module} uses {ast.unparse(node)}, which is not public"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and (package := packages.get(ast.unparse(node.value))) is not None
        and room(package) in {None, *UPPER, *BESIDE} - {room(module)}
        and node.attr not in _public(package)
    ]


def test_every_module_has_its_room():
    assert {room(module) for module in modules()} - {None, "__main__"} == set().union(*FLOORS)
    assert sum(map(len, FLOORS)) == len(set().union(*FLOORS))


def test_the_page_sends_people_to_modules_that_exist():
    table = PAGE.partition("## Where to change what")[2].partition("\n## ")[0]
    named = set(re.findall(r"`([\w/]+\.py)`", table))
    assert [name for name in sorted(named) if not any((top / name).exists() for top in (PACKAGE, CHECKOUT))] == []
    assert "oci/config.py" in named


def test_imports_point_downwards_only():
    assert [said for entry in every_import() for said in violations(entry)] == []


def test_what_stands_above_the_facade_reaches_for_nothing_that_is_not_public():
    above = {name: path for name, path in modules().items() if room(name) in UPPER}
    assert [said for name, path in sorted(above.items()) for said in reached(name, path.read_text())] == []


def test_what_is_excepted_for_the_suite_of_catalogs_is_what_it_uses():
    assert {entry.imported for entry in every_import() if entry.module == "ocistore.testing.catalogs"} >= CATALOG


def test_no_module_takes_a_private_name_from_another():
    private = [entry for entry in every_import() if (entry.name or "").startswith("_") and entry.name != "__version__"]
    assert [entry for entry in private if entry.imported.startswith("ocistore")] == []


def test_no_modules_lead_back_to_each_other_by_any_kind_of_import():
    assert circles(every_import()) == []


def test_nothing_below_the_facade_knows_it():
    below = {name for rooms in FLOORS[: floor(FACADE)] for name in rooms}
    words = re.compile(r"\bStore\(|: Store\b|\[Store\b|import Store\b")
    assert [name for name, path in modules().items() if room(name) in below and words.search(path.read_text())] == []


# Ways to import, or to reach a name, that the syntax above does not show.
HIDING = re.compile(r"\bimportlib\b|__import__|\bsys\.modules\b|\bexec\(|\bglobals\(\)")


def test_nothing_is_imported_in_a_hidden_way():
    hidden = {name for name, path in modules().items() if HIDING.search(path.read_text())}
    assert hidden <= {*TABLES, "ocistore.cli.program", "ocistore.archives.compression", "ocistore.logs"}


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
        ("ocistore.catalog.x", "if TYPE_CHECKING:\n    from ocistore.store import Store", 1),
        ("ocistore.catalog.x", "if TYPE_CHECKING:\n    pass\nelse:\n    from ocistore.store import Store", 1),
        ("ocistore.catalog.x", "def f():\n    from ocistore.core import Core", 1),
        ("ocistore.catalog.x", "try:\n    from ocistore.store import Store\nexcept ImportError:\n    pass", 1),
        ("ocistore.core", "if TYPE_CHECKING:\n    from ocistore.repository import Repository", 1),
        ("ocistore.store", "class Store:\n  def export(self):\n    import ocistore.layouts.exporting", 0),
        ("ocistore.store", "class Store:\n  def export(self):\n    import ocistore.cli", 1),
        ("ocistore.store", "import click", 1),
        ("ocistore.store", "from sqlalchemy import select", 1),
        ("ocistore.layouts.x", "from ocistore.cli import main", 1),
        ("ocistore.layouts.x", "from ocistore.store import Store", 1),
        ("ocistore.layouts.x", "from ocistore.core import Core", 0),
        ("ocistore.cli.x", "from ocistore import Store", 0),
        ("ocistore.cli.x", "import click", 0),
        ("ocistore.cli.x", "from ocistore.store import Store", 1),
        ("ocistore.artifacts.x", "from ocistore.catalog import tags", 1),
        ("ocistore.files.x", "from ocistore.archives.tar import TarReader", 1),
        ("ocistore.files.x", "from ocistore.blobs.paths import StorePaths", 1),
        ("ocistore.archives.x", "from ocistore.files.content import write_all", 0),
        ("ocistore.artifacts.x", "from ocistore.files.content import write_all", 0),
        ("ocistore.artifacts.x", "from ocistore.oci import mediatypes", 0),
        ("ocistore.artifacts.x", "from ocistore.blobs.output import Output", 1),
        ("ocistore.artifacts.x", "from ocistore.blobs.pool import Pool", 1),
        ("ocistore.artifacts.x", "from ocistore.layouts.directory import LayoutDirectory", 1),
        ("ocistore.artifacts.x", "def f():\n    from ocistore.upkeep import gc", 1),
        ("ocistore.artifacts.x", "if TYPE_CHECKING:\n    from ocistore.core import Core", 1),
        ("ocistore.artifacts.x", "from ocistore import Store, Stroe", 1),
        ("ocistore.artifacts.x", "from ocistore import store", 1),
        ("ocistore.artifacts.x", "import ocistore.core", 1),
        ("ocistore.artifacts.x", "from ocistore.cli import main", 1),
        ("ocistore.images.x", "from ocistore.artifacts import TITLE", 0),
        ("ocistore.images.x", "from ocistore.artifacts import StagedTree", 1),
        ("ocistore.images.x", "from ocistore.artifacts.titles import TITLE", 1),
        ("ocistore.images.x", "from ocistore.artifacts import titles", 1),
        ("ocistore.cli.x", "from ocistore.images import list_files", 0),
        ("ocistore.cli.x", "from ocistore.images.reading import list_files", 1),
        ("ocistore.testing.x", "from ocistore.pools import Pool", 0),
        ("ocistore.testing.x", "from ocistore.pools import FilePool", 1),
        ("ocistore.testing.x", "from ocistore.blobs.pool import Pool", 1),
        ("ocistore.cli.x", "from ocistore.pools import Pool", 0),
        ("ocistore.core", "from ocistore.pools import Pool", 1),
        ("ocistore.testing.x", "from ocistore.blobs.ingester import Ingester", 1),
        ("ocistore.testing.x", "from ocistore.catalog.tables import blobs", 1),
    ],
)
def test_what_points_upwards_would_be_found(module, source, wrong):
    assert sum(len(violations(entry)) for entry in imports(module, source)) == wrong


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("import ocistore\nocistore.rebuild", 0),
        ("import ocistore\nocistore.core.Core", 1),
        ("import ocistore\nocistore._HOMES", 1),
        ("import ocistore as o\no.core", 1),
        ("from ocistore import artifacts\nartifacts.push_files", 0),
        ("from ocistore import artifacts\nartifacts.titles.TITLE", 1),
        ("from ocistore import Store\nStore.open", 0),
    ],
)
def test_what_reaches_into_a_package_would_be_found(source, wrong):
    assert len(reached("ocistore.cli.x", source)) == wrong


def test_a_class_name_means_one_thing():
    homes = {}
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(name)
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}


def test_a_limit_means_one_thing():
    homes = {}
    for name, path in modules().items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.AnnAssign) and node.target.id.startswith("MAXIMUM_"):
                homes.setdefault(node.target.id, []).append(name)
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}
    assert "MAXIMUM_CONFIG_SIZE" in homes


@pytest.mark.parametrize("how", ["{}", "if TYPE_CHECKING:\n    {}", "def f():\n    {}"])
def test_a_circle_would_be_found(how):
    first = imports("ocistore.layouts.x", "from ocistore.layouts.index import check_layout_file")
    second = imports("ocistore.layouts.index", how.format("import ocistore.layouts.x"))
    assert len(circles([*first, *second])) == 2


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
from ocistore import Store, Transaction
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
    assert sorted(typed) == sorted(ocistore.__all__)
    for name, home in typed.items():
        assert getattr(ocistore, name) is getattr(importlib.import_module(home), name)


def test_names_are_listed_before_they_are_loaded():
    code = "import ocistore; print(set(ocistore.__all__) <= set(dir(ocistore)), 'Store' in vars(ocistore))"
    assert run_python(code, fresh=True) == "True False\n"


def test_the_package_has_no_other_names():
    with pytest.raises(AttributeError, match="'Stroe'"):
        ocistore.Stroe  # noqa: B018
