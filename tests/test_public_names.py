"""What people read with ``help()``: every public name says what it is, and every function begins with what it does."""

import ast
import importlib
import importlib.util
import inspect
import itertools
import re
from pathlib import Path

import pytest

import ocistore
import ocistore.artifacts
import ocistore.images
import ocistore.pools
from ocistore import Lease, Repository, Store, Upload

PUBLIC = (ocistore, ocistore.artifacts, ocistore.images, ocistore.pools)
PACKAGE = Path(ocistore.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

NO_VERBS = frozenset(
    re.findall(
        r"\w+",
        """a all an and another any as at because both by does each every everything exactly for from good here his how
        if in it its less likewise nobody not nothing now of on one only other others our same since so some somebody
        something such that the their them there these this those to under until up what when where wherever which
        while who whoever whom whose why with without you""",
    )
)
"""Words that no instruction begins with."""

ENDING_IN_S = frozenset(
    {"Pass", "Process", "Compress", "Decompress", "Access", "Address", "Guess", "Miss", "Focus", "Press"}
)
"""Verbs in the imperative that look like the third person."""

REFERENCE = re.compile(r":(?:mod|class|func|meth|data|attr|exc):`~?(ocistore[.\w]*)`")

PHRASES = re.compile(
    r"(?<!left) behind |\bgo(es)? on\b|\bgone on\b|\bbe it\b|\bbe they\b|\btold of\b|\blies? aside\b"
    r"|\bt(ake|akes|ook) away\b|\b(was|were|is|are) put back\b|\bcounts on\b"
)
"""What is called otherwise here: after, continue, whether or not, called with, is staged, remove, restored."""


def documented(tree):
    """Yield each name of a module that is assigned at its top, with the text below it."""
    for statement, after in itertools.pairwise(tree.body):
        is_text = (
            isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str)
        )
        targets = getattr(statement, "targets", [getattr(statement, "target", None)])
        for target in targets if is_text else ():
            if isinstance(target, ast.Name):
                yield target.id, after.value.value


def definitions(tree, prefix=""):
    """Yield the name and the node of each function in a module, those in classes and in functions included."""
    for node in ast.iter_child_nodes(tree):
        name = f"{prefix}{node.name}" if hasattr(node, "name") else prefix
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield name, node
        yield from definitions(node, f"{name}." if hasattr(node, "name") else prefix)


def texts(tree):
    """Yield each docstring, those below assignments included, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value


def is_property(node):
    return any(re.search(r"property|\.setter|\.getter", ast.unparse(each)) for each in node.decorator_list)


def wrong_beginning(text, returned):
    """Return what is wrong with the first word of a function's docstring; None where it may be a verb."""
    word = re.match(r"\S*", text)[0].rstrip(".,:;")
    if word == "Whether":
        return None if re.search(r"\b(bool|Type(Guard|Is))\b", returned) else "Whether, and no bool is returned"
    if not re.fullmatch("[A-Z][a-z]+", word) or word.lower() in NO_VERBS:
        return f"{word} is no verb"
    if word.endswith("s") and word not in ENDING_IN_S:
        return f"{word} is no imperative"
    return None


def beginnings(source):
    """Yield each function of a module whose docstring does not begin with what it does."""
    for name, node in definitions(ast.parse(source)):
        text = ast.get_docstring(node)
        if text is None or is_property(node):
            continue
        wrong = wrong_beginning(text, ast.unparse(node.returns) if node.returns else "")
        if wrong is not None:
            yield f"{node.lineno} {name}: {wrong}"


@pytest.mark.parametrize("module", PUBLIC, ids=lambda module: module.__name__)
def test_every_public_name_says_what_it_is(module):
    assert inspect.getdoc(module)
    silent = [name for name in module.__all__ if not says_what_it_is(module, name)]
    assert not silent


def says_what_it_is(module, name):
    thing = getattr(module, name)
    if inspect.isclass(thing) or inspect.isfunction(thing):
        own = thing.__dict__.get("__doc__") if inspect.isclass(thing) else thing.__doc__
        return bool(own) and not own.startswith(f"{name}(")  # as dataclass writes where there is none
    return any(
        documented_name == name and text.strip()
        for home in homes(module, name)
        for documented_name, text in documented(ast.parse(Path(home.__file__).read_text(encoding="utf-8")))
    )


def homes(module, name):
    """Yield the modules that may assign a constant: the one that gives the name, and where it is imported from."""
    seen, waiting = set(), [module]
    lazily = getattr(module, "_HOMES", {}).get(name)
    if lazily:
        waiting.append(importlib.import_module(lazily))
    while waiting:
        here = waiting.pop()
        if here in seen:
            continue
        seen.add(here)
        yield here
        for statement in ast.walk(ast.parse(Path(here.__file__).read_text(encoding="utf-8"))):
            if isinstance(statement, ast.ImportFrom) and any(alias.name == name for alias in statement.names):
                waiting.append(importlib.import_module(statement.module))


@pytest.mark.parametrize("module", PUBLIC, ids=lambda module: module.__name__)
def test_every_public_method_says_what_it_does(module):
    silent = [
        f"{name}.{method}"
        for name in module.__all__
        if inspect.isclass(getattr(module, name))
        for method, thing in vars(getattr(module, name)).items()
        if not method.startswith("_") and is_method(thing) and not inspect.getdoc(thing)
    ]
    assert not silent


def is_method(thing):
    return inspect.isfunction(thing) or isinstance(thing, (property, classmethod, staticmethod))


READING = frozenset(
    re.findall(
        r"\w+",
        """blob_path blob_url blobs check check_files check_import choose_image close discover exists explain
        get_manifest has_blob history holders is_packed_directory is_store lease leases list_files
        list_tags manifests open_blob open_file read_config referrers referrers_of repositories
        repository resolve resume start stat_upload tags tags_of title_components transaction upload uploads
        usage use""",
    )
)
"""What changes nothing of a store by itself. Any other public call says what it promises."""

SAID = {
    "whether it is idempotent": re.compile(r"[Ii]dempotent|\bagain (raises|appends|completes)"),
    "whether it is atomic, or what a crash leaves": re.compile(r"[Aa]tomic|in one commit|\bcrash\b|power cut|at once"),
    "when it is durable": re.compile(r"[Dd]urabl[ey]|power cut"),
    "what it raises": re.compile(r"\bRaises:"),
}
"""What the text of a call that changes something has to say."""


def changing():
    """Yield the name and the text of each public call that changes something."""
    for owner in (Store, Repository, Upload, Lease):
        for name, thing in inspect.getmembers(owner, inspect.isroutine):
            if not name.startswith("_") and name not in READING - ({"close"} if owner is Upload else set()):
                yield f"{owner.__name__}.{name}", inspect.getdoc(thing)
    for module in (ocistore, ocistore.artifacts, ocistore.images):
        for name in module.__all__:
            if inspect.isfunction(getattr(module, name)) and name not in READING:
                yield f"{module.__name__}.{name}", inspect.getdoc(getattr(module, name))


@pytest.mark.parametrize(("name", "text"), list(changing()), ids=lambda value: value.split("\n")[0][:60])
def test_every_call_that_changes_something_says_what_it_promises(name, text):
    assert not [
        f"{name} does not say {what}" for what, words in SAID.items() if not words.search(" ".join(text.split()))
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_functions_begin_with_what_they_do(path):
    assert not list(beginnings(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_docstrings_refer_to_what_exists(path):
    found = REFERENCE.finditer(path.read_text(encoding="utf-8"))
    assert not [each[1] for each in found if not exists(each[1])]


def exists(dotted):
    """Whether a module, or something in one, has that name; fields of classes are known by their annotations."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        if is_module(".".join(parts[:count])):
            break
    thing = importlib.import_module(".".join(parts[:count]))
    for name in parts[count:]:
        if not hasattr(thing, name):
            return name in getattr(thing, "__annotations__", {})
        thing = getattr(thing, name)
    return True


def is_module(dotted):
    try:
        return importlib.util.find_spec(dotted) is not None
    except ModuleNotFoundError:  # what should be its parent is no package
        return False


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_docstrings_use_the_usual_words(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not [
        f"{line}: {found[0]}" for line, text in texts(tree) for found in PHRASES.finditer(" ".join(text.split()))
    ]


@pytest.mark.parametrize(
    ("dotted", "is_there"),
    [
        ("ocistore", True),
        ("ocistore.Store.open", True),
        ("ocistore.upload.Upload.id", True),
        ("ocistore.Store.opens", False),
        ("ocistore.nowhere.Store", False),
    ],
)
def test_references_are_told_apart(dotted, is_there):
    assert exists(dotted) == is_there


@pytest.mark.parametrize(
    ("text", "returned", "is_good"),
    [
        ("Return the size.", "int", True),
        ("Whether it is there.", "bool", True),
        ("Whether it is there.", "int", False),
        ("The size.", "int", False),
        ("Returns the size.", "int", False),
        ("Compress what is written.", "None", True),
        ("``text``, checked.", "str", False),
        ("REPO:TAG of it.", "str", False),
        ("What is there.", "str", False),
    ],
)
def test_beginnings_are_told_apart(text, returned, is_good):
    found = list(beginnings(f'def function() -> {returned}:\n    """{text}"""\n'))
    assert (not found) == is_good
