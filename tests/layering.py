"""Which module imports which, read from the syntax of every module, and the order of the rooms, read from the docs."""

import ast
import functools
import re
from dataclasses import dataclass
from pathlib import Path

import ocistore

PACKAGE = Path(ocistore.__file__).parent
CHECKOUT = PACKAGE.parent

# These give names or commands by a table, and import what is asked for: the test reads the table.
TABLES = {"ocistore": "_HOMES", "ocistore.cli.commands": "COMMANDS"}


@dataclass(frozen=True)
class Import:
    """One module imported by another."""

    module: str
    imported: str
    name: str | None = None
    """What of it is named in ``from … import``; None where that is a module too, or nothing is named."""
    function: str | None = None
    """The function or class in which it stands, if not at the top of the module."""
    annotation: bool = False
    """Under TYPE_CHECKING: nothing is imported when the program runs."""


def room(module):
    """The room of one of our modules; None for the package itself, which only gives names to the outside."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


@functools.cache
def modules():
    """The path of every module of the package, by name."""
    return {
        ".".join(("ocistore", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
        if "_migrations" not in path.parts
    }


def imports(module, source):
    """Every import of a module: at the top, inside functions, for annotations, and as a table that it imports from."""
    found = []

    def visit(node, function, annotation):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.extend(Import(module, name.name, None, function, annotation) for name in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{module} imports relatively"
                for name in child.names:
                    longer = f"{child.module}.{name.name}"
                    imported, named = (longer, None) if longer in modules() else (child.module, name.name)
                    found.append(Import(module, imported, named, function, annotation))
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
def every_import():
    return [entry for module, path in sorted(modules().items()) for entry in imports(module, path.read_text())]


def floors(page):
    """The rooms from the ground up, as the table under "The rooms" in docs/architecture.md has them, a floor a row."""
    table = page.partition("## The rooms")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return [{name.strip("/").removesuffix(".py") for name in re.findall(r"`([\w./]+)`", row)} for row in rows]


def circles(entries):
    """Every import that is part of a circle of modules, whatever kind of import it is."""
    needs = {}
    for entry in entries:
        if entry.imported.startswith("ocistore") and entry.module != "ocistore":
            needs.setdefault(entry.module, set()).add(entry.imported)
    reached = {}

    def reach(module):
        if module not in reached:
            reached[module] = seen = set()
            waiting = [module]
            while waiting:
                for needed in needs.get(waiting.pop(), ()):
                    if needed not in seen:
                        seen.add(needed)
                        waiting.append(needed)
        return reached[module]

    return sorted(
        f"{module} imports {needed}, and that leads back"
        for module, all_needed in needs.items()
        for needed in all_needed
        if needed == module or module in reach(needed)
    )
