"""How Sphinx builds these pages, and the reference of the API from the docstrings.

Sphinx, because it renders what the docstrings have: Google's sections, and roles such as ``:meth:`Store.open```, which
mkdocstrings and pdoc leave as they are written. MyST lets it read the pages, which are Markdown. Nothing is loaded from
the network, so a build says the same everywhere.
"""

from __future__ import annotations

import importlib
import re
import sys
from typing import TYPE_CHECKING, Final

from sphinx.addnodes import pending_xref
from sphinx.ext.napoleon import Config, GoogleDocstring
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.nodes import find_pending_xref_condition

import ocistore

if TYPE_CHECKING:
    from docutils.nodes import Element, document
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

project = "ocistore"
release = version = ocistore.__version__
extensions = ["sphinx.ext.autodoc", "myst_parser"]
exclude_patterns = ["examples/*.md"]
html_theme = "furo"
html_title = f"ocistore {version}"
html_copy_source = False
nitpicky = True  # a name that leads nowhere is a warning, and a warning is an error (.ci/run)
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "undoc-members": True}
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True
myst_heading_anchors = 4
suppress_warnings = ["misc.highlighting_failure"]  # JSON with ellipses

PUBLIC: Final = ["ocistore", "ocistore.artifacts", "ocistore.images", "ocistore.mediatypes", "ocistore.pools"]
"""The modules whose names are linked to, wherever they are defined."""

NAMES: Final = {
    name: f"{module}.{name}" for module in reversed(PUBLIC) for name in importlib.import_module(module).__all__
} | {"MemoryPool": "ocistore.testing.memory.MemoryPool"}

STANDARD: Final = ["builtins", "collections.abc", "contextlib", "datetime", "io", "os", "pathlib", "types", "typing"]
"""The modules of which signatures name classes: shown, and not linked to."""

SHOWN: Final = frozenset(
    {"AnyValue", "Ballast", "Content", "Core", "Describable", "Edge", "FileDescriptor", "Fill", "Unchanged"}
)
"""Names of private types in public signatures: those of constants, and what is passed on as it is."""


def find_public(app: Sphinx, environment: BuildEnvironment, node: pending_xref, content: Element) -> Element | None:
    """Resolve what is written by its bare name, or by the module where it is defined, to the name that is public."""
    target: str = node.get("reftarget", "")
    if node.get("refdomain") != "py":
        return None
    content = find_pending_xref_condition(node, "resolved") or content
    parts = target.removeprefix("~").split(".")
    for start, part in enumerate(parts):
        if part in NAMES:
            full = ".".join([NAMES[part], *parts[start + 1 :]])
            domain = environment.domains.python_domain
            for kind in (node["reftype"], "obj"):
                found = domain.resolve_xref(environment, node["refdoc"], app.builder, kind, full, node, content)
                if found is not None:
                    return found
    return None


def leave_others(app: Sphinx, page: document) -> None:
    """Show the names of Python's own classes, and of private types, as text: ``bytes`` is not a field of ours."""
    for node in list(page.findall(pending_xref)):
        name = node.get("reftarget", "").partition("[")[0].rpartition(".")[2]
        is_standard = any(hasattr(importlib.import_module(module), name) for module in STANDARD)
        if node.get("refdomain") == "py" and node["reftype"] != "meth" and (is_standard or name in SHOWN):
            bare = find_pending_xref_condition(node, "resolved")
            node.replace_self((bare or node).children)


def read_google_style(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Turn the sections of a docstring into fields.

    Napoleon's own handler takes the text of an attribute up to a colon for its type; annotations say that here.
    """
    what = "method" if what in ("attribute", "data", "property") else what
    config = Config(napoleon_use_rtype=False, napoleon_use_ivar=True)
    lines[:] = GoogleDocstring(list(lines), config, what=what, name=name, obj=thing).lines()


def find_text_below(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Give a constant or alias the text below its assignment, in whichever module that is."""
    if what != "data":
        return
    short = name.rpartition(".")[2]
    for module in sorted(each for each in sys.modules if each.startswith("ocistore.")):
        text = ModuleAnalyzer.for_module(module).find_attr_docs().get(("", short))
        if text and vars(sys.modules[module]).get(short) is thing:
            lines[:] = text
            return


def unlink_pages_outside(app: Sphinx, page: str, source: list[str]) -> None:
    """Show links to README.md and other pages outside docs/, which are not built, as text."""
    source[0] = re.sub(r"\[([^]]*)\]\(\.\./(?:[\w-]+/)*[A-Z]+\.md\)", r"\1", source[0])


def hide_private_constructor(
    app: Sphinx, what: str, name: str, thing: object, options: object, signature: str | None, returns: str | None
) -> tuple[str | None, str | None] | None:
    """Show no signature of a class that others do not make: what it takes is private."""
    return ("", returns) if what == "class" and signature and re.search(r"\bcore\b|\b_[A-Z]", signature) else None


def setup(app: Sphinx) -> None:
    """Connect the functions above."""
    app.connect("source-read", unlink_pages_outside)
    app.connect("missing-reference", find_public)
    app.connect("autodoc-process-docstring", find_text_below, priority=400)
    app.connect("autodoc-process-docstring", read_google_style)
    app.connect("doctree-read", leave_others)
    app.connect("autodoc-process-signature", hide_private_constructor)
