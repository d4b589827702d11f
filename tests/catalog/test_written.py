"""What is written down of the statements is what SQLAlchemy makes of them now, and all that the functions run."""

import ast
import re
from pathlib import Path

import pytest
from written import AGAIN, DIALECTS, definitions, schema, statements, text_of

import ocistore.catalog
from ocistore.catalog import written
from ocistore.catalog.written import Statements, texts_in

CATALOG = Path(ocistore.catalog.__file__).parent
PACKAGE = CATALOG.parent


@pytest.mark.parametrize("dialect", written.DIALECTS)
@pytest.mark.parametrize("name", sorted({*definitions(), *texts_in("sqlite")}))
def test_a_statement_is_written_down_as_it_is_defined(name, dialect):
    assert name in definitions(), AGAIN
    assert texts_in(dialect).get(name) == text_of(definitions()[name], dialect), AGAIN


@pytest.mark.parametrize("dialect", written.DIALECTS)
def test_the_files_are_what_would_be_written_now(dialect):
    for what, text in (("statements", statements(dialect)), ("schema", schema(dialect))):
        assert Path(written.path_of(what, dialect)).read_text() == text, AGAIN


def test_every_dialect_that_is_read_is_written():
    assert set(written.DIALECTS) == set(DIALECTS)


@pytest.mark.parametrize("name", sorted(definitions()))
def test_a_statement_binds_parameters_and_no_constants(name):
    assert re.findall(r":(?:param|\w+)_\d+\b|\?|POSTCOMPILE", texts_in("sqlite")[name]) == []


def used():
    """The statements that modules name, each as its own module does."""
    found = set()
    for path in [*CATALOG.glob("*.py"), *(PACKAGE / "testing").glob("*.py")]:
        text = path.read_text()
        of = re.search(r'^_sql = Statements\("(\w+)"\)', text, re.MULTILINE)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "_sql" and node.attr != "each":
                found.add(f"{of[1]}.{node.attr}")
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "_sql.each":
                found.add(f"{of[1]}.{node.args[0].value}[")
    return found


def test_the_functions_run_what_is_written_down_and_nothing_is_written_down_in_vain():
    assert len(used()) > 200
    assert used() == {re.sub(r"\d+\]$", "", name) for name in texts_in("sqlite")}


def test_a_statement_has_the_text_of_each_dialect():
    statement = Statements("tags").PAGE
    assert statement.name == "tags.PAGE"
    assert statement.texts == {dialect: texts_in(dialect)["tags.PAGE"] for dialect in written.DIALECTS}
    assert Statements("tags").each("OF_MANIFEST")[1].name == "tags.OF_MANIFEST[1]"


def test_a_name_that_is_not_written_down_is_said():
    with pytest.raises(AttributeError, match=r"tags\.NOTHING"):
        Statements("tags").NOTHING  # noqa: B018
    with pytest.raises(AttributeError, match=r"tags\.PAGE"):
        Statements("tags").each("PAGE")
