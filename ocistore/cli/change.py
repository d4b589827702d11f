"""init, tag, untag and rm: changing a store."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from ocistore import ANY, Digest, InvalidNameError, ManifestNotFoundError, Reference
from ocistore.cli.completion import complete_reference
from ocistore.cli.location import Location, pass_location
from ocistore.cli.printing import example, json_option, print_json, print_json_lines, print_line, printable
from ocistore.cli.promoting import promote
from ocistore.oci.jsonvalue import JSONValue

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        "ocistore tag staging/app:1.2 production/app:1.2",
    )
)
@click.argument("ref", shell_complete=complete_reference)
@click.argument("newtag", metavar="NEWTAG|REPO:TAG", shell_complete=complete_reference)
@click.option(
    "--expected",
    metavar="DIGEST|none",
    help="Tag only if NEWTAG points to this digest now; none: only if it does not exist.",
)
@pass_location
def tag(location: Location, ref: str, newtag: str, *, expected: str | None) -> None:
    """Point a tag at what a reference stands for.

    NEWTAG is a tag in the same repository. If it exists, it is moved. With REPO:TAG in another repository, what REF
    stands for is copied there too, with its referrers (signatures, SBOMs), as cp does.
    """
    reference = Reference.parse(ref)
    target = _target(reference, newtag)
    condition = ANY if expected is None else None if expected == "none" else Digest.parse(expected)
    if target.repository != reference.repository and expected is not None:
        raise click.UsageError("--expected is for a tag in the same repository")
    with location.changing() as store:
        if target.repository != reference.repository:
            promote(store, reference, target, referrers=True)
            return
        repository = store.repository(reference.repository)
        repository.tag(str(target.tag), repository.resolve(reference.target).digest, expected=condition)


def _target(reference: Reference, text: str) -> Reference:
    """Parse the tag to make: TAG, or REPO:TAG, for which a tag alone has no room."""
    if ":" not in text and "/" not in text:
        return Reference(reference.repository, text)
    target = Reference.parse(text)
    if target.tag is None or target.digest is not None:
        raise InvalidNameError(text, kind="reference", reason="give NEWTAG or REPO:TAG, the tag to make", unclear=True)
    return target


@click.command(epilog=example("ocistore untag library/alpine:latest library/alpine:3.19"))
@click.argument("refs", metavar="REF...", nargs=-1, required=True, shell_complete=complete_reference)
@pass_location
def untag(location: Location, refs: tuple[str, ...]) -> None:
    """Remove tags, all of them or none.

    The manifests stay, with their digests and their other tags, until garbage collection removes them.
    """
    wanted = []
    for ref in dict.fromkeys(refs):
        reference = Reference.parse(ref)
        if reference.tag is None or reference.digest is not None:
            raise InvalidNameError(ref, kind="reference", reason="give REPO:TAG, the tag to remove", unclear=True)
        wanted.append((reference.repository, reference.tag))
    with location.changing() as store, store.transaction() as transaction:
        for repository, name in wanted:
            transaction.repository(repository).untag(name)


@click.command(
    epilog=example(
        "ocistore rm library/alpine:3.18 library/alpine:3.17",
        "ocistore rm library/alpine@sha256:beefdbd8a1da...",
        "ocistore rm library/alpine --yes",
    )
)
@click.argument("refs", metavar="REF...", nargs=-1, required=True, shell_complete=complete_reference)
@click.option("--yes", is_flag=True, help="Delete a whole repository, or all tags of a manifest, without asking.")
@json_option
@pass_location
def rm(location: Location, refs: tuple[str, ...], *, yes: bool, as_json: bool) -> None:
    """Delete manifests, blobs or repositories.

    \b
    REPO:TAG     the manifest that the tag points at, and the tag; if it has
                 other tags, --yes is needed, and they are removed too
                 (to remove only the tag, use untag)
    REPO@DIGEST  the manifest and all of its tags; or the blob
    REPO         the repository and everything in it

    Content that manifests of the same repository refer to is not deleted. One after the other is deleted, and the first
    that cannot be ends the command. Prints what was deleted. The files of what nothing needs any more are removed
    later, by gc. --json prints one object, or for several references an array of them.
    """  # noqa: D301  (click takes a real \b, not its spelling)
    references = []
    for ref in refs:
        reference = Reference.parse(ref)
        if reference.tag is not None and reference.digest is not None:
            reason = "give a tag or a digest, so that it is clear what to delete"
            raise InvalidNameError(ref, kind="reference", reason=reason, unclear=True)
        references.append(reference)
    deleted = []
    try:
        with location.changing() as store:
            if not yes:
                for reference in references:
                    _confirm(store, reference)
            for reference in references:
                deleted.append(_delete(store, reference))  # noqa: PERF401 - what is done is printed if the next one fails
    finally:
        if as_json and len(refs) > 1:
            print_json_lines(each.to_json() for each in deleted)
        elif as_json and deleted:
            print_json(deleted[0].to_json())
        elif not as_json:
            _print_deleted(deleted)


def _print_deleted(deleted: Sequence[_Deleted]) -> None:
    for each in deleted:
        digest = "" if each.digest is None else f"@{each.digest}"
        print_line(f"deleted {each.kind} {each.repository}{digest}")
        for name in each.tags:
            print_line(f"removed tag {each.repository}:{name}")


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
