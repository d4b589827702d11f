"""The reference of the API names every public name, and the pages list each other and every error."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

import ocistore

DOCS = Path(__file__).parents[1] / "docs"
README = DOCS.parent / "README.md"
PAGES = sorted(path for path in DOCS.glob("*.md") if path.name != "index.md")
REFERENCE = sorted((DOCS / "api").glob("*.rst"))
PUBLIC = ("ocistore", "ocistore.artifacts", "ocistore.images", "ocistore.mediatypes", "ocistore.pools")


def named(page):
    """The full names that the directives of a page are about."""
    module, names = "", set()
    for kind, name in re.findall(r"^\.\. (\w+):: (\S+)", page.read_text(), re.MULTILINE):
        if kind == "currentmodule":
            module = name
        elif kind != "automodule":
            names.add(name if name.startswith("ocistore.") else f"{module}.{name}")
    return names


@pytest.mark.parametrize("module", PUBLIC)
def test_the_reference_names_every_public_name_and_no_other(module):
    in_reference = {name for page in REFERENCE for name in named(page) if name.rpartition(".")[0] == module}
    assert in_reference == {f"{module}.{name}" for name in importlib.import_module(module).__all__}


def test_the_reference_lists_all_its_pages():
    listed = re.search(r"```\{toctree\}\n(.*?)```", (DOCS / "api" / "index.md").read_text(), re.DOTALL)[1]
    assert sorted(re.findall(r"^[a-z]\w*$", listed, re.MULTILINE)) == [page.stem for page in REFERENCE]


def test_every_page_is_in_the_index_and_in_the_table_of_the_readme():
    trees = re.findall(r"```\{toctree\}\n(.*?)```", (DOCS / "index.md").read_text(), re.DOTALL)
    listed = [name for tree in trees for name in re.findall(r"^[a-z][\w/-]*$", tree, re.MULTILINE)]
    assert sorted(listed) == sorted([*(page.stem for page in PAGES), "api/index"])
    table = README.read_text().partition("## Documentation")[2]
    assert sorted(re.findall(r"\| \[docs/([\w-]+)\.md\]", table)) == [page.stem for page in PAGES]


def errors():
    """Every class of error but the root, in the order in which they are declared."""
    classes = [getattr(ocistore, name) for name in ocistore.__all__ if name.endswith("Error")]
    classes.sort(key=lambda error: inspect.getsourcelines(error)[1])
    return [error for error in classes if error is not ocistore.OCIStoreError]


def test_the_table_of_errors_says_of_each_its_code_its_exit_code_and_when_it_is_raised():
    table = (DOCS / "errors.md").read_text().partition("## All of them")[2]
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    assert rows == [
        f"| `{error.__name__}` | {error.code} | {error.exit_code} | {first_paragraph(error)} |" for error in errors()
    ]


def first_paragraph(thing):
    return inspect.getdoc(thing).split("\n\n")[0].replace("\n", " ").replace("``", "`")
