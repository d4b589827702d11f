"""init, tag, untag and rm: changing a store."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from ocistore import ANY, Digest, InvalidNameError, ManifestNotFoundError, Reference
from ocistore.cli.completion import complete_reference
from ocistore.cli.location import Location, pass_location
from ocistore.cli.printing import example, json_option, print_json, print_line, printable
from ocistore.oci.jsonvalue import JSONValue

if TYPE_CHECKING:
    from ocistore import Store

_NAMED: Final = 20
"""How many tags a question lists: as many as an error does (see :class:`ocistore.errors.ReferencedError`)."""


@click.command(epilog=example("ocistore --store ~/store init"))
@pass_location
def init(location: Location) -> None:
    """Create an empty store, and print its path.

    A store that exists is left as it is, except that the schema of an older one is upgraded, and that empty directories
    which a copy of it lost are created again.
    """
    with location.creating() as store:
        print_line(str(store.root))
    for path in store.made_again:
        click.echo(printable(f"created again: {path}"), err=True)


@click.command(
    epilog=example(
        "ocistore tag library/alpine:3.20 latest",
        "ocistore tag library/alpine:3.20 stable --expected none",
    )
)
@click.argument("ref", shell_complete=complete_reference)
@click.argument("newtag")
@click.option(
    "--expected",
    metavar="DIGEST|none",
    help="Tag only if NEWTAG points to this digest now; none: only if it does not exist.",
)
@pass_location
def tag(location: Location, ref: str, newtag: str, *, expected: str | None) -> None:
    """Point a tag at what a reference stands for.

    NEWTAG is a tag in the same repository. If it exists, it is moved.
    """
    reference = Reference.parse(ref)
    condition = ANY if expected is None else None if expected == "none" else Digest.parse(expected)
    with location.changing() as store:
        repository = store.repository(reference.repository)
        repository.tag(newtag, repository.resolve(reference.target).digest, expected=condition)


@click.command(epilog=example("ocistore untag library/alpine:latest"))
@click.argument("ref", shell_complete=complete_reference)
@pass_location
def untag(location: Location, ref: str) -> None:
    """Remove a tag.

    The manifest stays, with its digest and its other tags, until garbage collection removes it.
    """
    reference = Reference.parse(ref)
    if reference.tag is None or reference.digest is not None:
        raise InvalidNameError(ref, kind="reference", reason="give REPO:TAG, the tag to remove", unclear=True)
    with location.changing() as store:
        store.repository(reference.repository).untag(reference.tag)


@click.command(
    epilog=example(
        "ocistore rm library/alpine:3.18",
        "ocistore rm library/alpine@sha256:beefdbd8a1da...",
        "ocistore rm library/alpine --yes",
    )
)
@click.argument("ref", shell_complete=complete_reference)
@click.option("--yes", is_flag=True, help="Delete a whole repository, or all tags of a manifest, without asking.")
@json_option
@pass_location
def rm(location: Location, ref: str, *, yes: bool, as_json: bool) -> None:
    """Delete a manifest, a blob or a repository.

    \b
    REPO:TAG     the manifest that the tag points at, and the tag; if it has
                 other tags, --yes is needed, and they are removed too
                 (to remove only the tag, use untag)
    REPO@DIGEST  the manifest and all of its tags; or the blob
    REPO         the repository and everything in it

    Content that manifests of the same repository refer to is not deleted. Prints what was deleted.
    """  # noqa: D301  (click takes a real \b, not its spelling)
    reference = Reference.parse(ref)
    if reference.tag is not None and reference.digest is not None:
        reason = "give a tag or a digest, so that it is clear what to delete"
        raise InvalidNameError(ref, kind="reference", reason=reason, unclear=True)
    with location.changing() as store:
        if not yes:
            _confirm(store, reference)
        deleted = _delete(store, reference)
    if as_json:
        print_json(deleted.to_json())
        return
    digest = "" if deleted.digest is None else f"@{deleted.digest}"
    print_line(f"deleted {deleted.kind} {deleted.repository}{digest}")
    for name in deleted.tags:
        print_line(f"removed tag {reference.repository}:{name}")


@dataclass(frozen=True)
class _Deleted(JSONValue):
    kind: str
    """``manifest``, ``blob`` or ``repository``."""
    repository: str
    digest: Digest | None
    tags: list[str]
    """Those that pointed at a manifest, and were removed with it."""


def _confirm(store: Store, reference: Reference) -> None:
    """Ask before more is deleted than was named; where standard input is no terminal, refuse."""
    if reference.digest is not None:
        return
    repository = store.repository(reference.repository)
    if reference.tag is None:
        count = sum(1 for _ in repository.tags())
        tags = "1 tag" if count == 1 else f"{count} tags"
        problem = f"{reference} is a whole repository, with {tags}: pass --yes to delete it"
        question = f"Delete the repository {reference} with its {tags}?"
    else:
        digest = repository.resolve(reference.tag).digest
        others = [name for name in repository.tags_of(digest) if name != reference.tag]
        if not others:
            return
        names = ", ".join(others[:_NAMED]) + (" ..." if len(others) > _NAMED else "")
        problem = (
            f"the manifest of {reference} has other tags, which would be removed too: {names}; "
            "pass --yes to delete it, or use untag to remove only the tag"
        )
        question = f"Delete the manifest of {reference} with its other tags, {names}?"
    if sys.stdin is None or not sys.stdin.isatty():
        raise click.UsageError(problem)
    click.confirm(question, abort=True, err=True)


def _delete(store: Store, reference: Reference) -> _Deleted:
    repository = store.repository(reference.repository)
    kind = "manifest"
    digest = reference.digest
    tags: list[str] = []
    if reference.tag is not None:
        digest = repository.resolve(reference.tag).digest
    if digest is None:
        kind = "repository"
        store.delete_repository(reference.repository)
    else:
        tags = repository.tags_of(digest)
        try:
            repository.delete_manifest(digest)
        except ManifestNotFoundError:
            kind = "blob"
            repository.delete_blob(digest)
    return _Deleted(kind, reference.repository, digest, tags)


COMMANDS: Final = (init, tag, untag, rm)
