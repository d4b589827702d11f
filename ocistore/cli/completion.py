"""Completing repositories and tags in a shell."""

from __future__ import annotations

import os
import sqlite3
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from click.shell_completion import BashComplete, add_completion_class, split_arg_string

from ocistore import OCIStoreError
from ocistore.cli.location import STORE_VARIABLE, Location

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import click
    from click.shell_completion import CompletionItem

    from ocistore import Store

_MOST: Final = 200
"""How many names are offered at most; a shell asks before it shows half as many."""


def complete_repository(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    """Return the repositories that begin with the text."""
    return _offered(context, lambda store: _repositories(store, incomplete))


def complete_reference(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    """Return the repositories that begin with the text; after a colon, or if there is only one, also its tags."""
    return _offered(context, lambda store: _references(store, incomplete))


def _repositories(store: Store, incomplete: str) -> Iterator[str]:
    yield from store.repositories(prefix=incomplete, limit=_MOST)


def _references(store: Store, incomplete: str) -> Iterator[str]:
    repository, colon, tag = incomplete.partition(":")
    if not colon:
        found = list(_repositories(store, incomplete))
        yield from found
        if len(found) != 1:
            return
        repository = found[0]
    for name in store.repository(repository).tags(prefix=tag, limit=_MOST):
        yield f"{repository}:{name}"


def _offered(context: click.Context, candidates: Callable[[Store], Iterator[str]]) -> list[str]:
    """Return the first candidates; none if the store cannot be read, because completion cannot show errors."""
    given = context.find_root().params.get("store") or os.environ.get(STORE_VARIABLE)
    if not given:
        return []
    try:
        with Location(Path(given).expanduser()).reading() as store:
            return list(islice(candidates(store), _MOST))
    except (OCIStoreError, OSError, sqlite3.Error):
        return []


class _Bash(BashComplete):
    """For bash, in which a colon ends a word: of ``app:v1`` it completes, and replaces, only what follows the colon.

    So the words are taken from the line itself, and what stands before the colon is left out of the answers.
    """

    source_template = """\
%(complete_func)s() {
    local kind value
    COMPREPLY=()
    while IFS=, read -r kind value; do
        case $kind in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done < <(COMP_LINE="${COMP_LINE:0:COMP_POINT}" COMP_WORDBREAKS="$COMP_WORDBREAKS" \\
        %(complete_var)s=bash_complete "$1" 2>/dev/null)
}
complete -F %(complete_func)s %(prog_name)s
"""

    _left_out = ""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one being typed, and that one."""
        line = os.environ.get("COMP_LINE", "")
        words = split_arg_string(line)[1:]
        incomplete = words.pop() if words and not line[-1].isspace() else ""
        typed = incomplete.partition("=")[2] if incomplete.startswith("--") else incomplete
        if ":" in os.environ.get("COMP_WORDBREAKS", ":"):
            self._left_out = typed[: typed.rfind(":") + 1]
        return words, incomplete

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """Return one line of the answer."""
        return f"{item.type},{str(item.value).removeprefix(self._left_out)}"


def offer_completion() -> None:
    """Register the completion for bash with click."""
    add_completion_class(_Bash)
