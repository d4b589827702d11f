"""usage and uploads: counts, and open upload sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from ocistore import RepositoryNotFoundError
from ocistore.cli.completion import complete_repository
from ocistore.cli.location import Location, pass_location
from ocistore.cli.printing import (
    example,
    json_option,
    print_fields,
    print_json,
    print_json_lines,
    print_line,
    readable_size,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocistore import Store, UploadInfo


@click.command(epilog=example("ocistore usage --json"))
@json_option
@pass_location
def usage(location: Location, *, as_json: bool) -> None:
    """Count what the store holds.

    Each blob counts once, even where several repositories hold it. Manifests are blobs too.
    """
    with location.reading() as store:
        found = store.usage()
    if as_json:
        print_json(found.to_json())
    else:
        print_fields(
            {
                "repositories": str(found.repositories),
                "tags": str(found.tags),
                "manifests": str(found.manifests),
                "blobs": f"{found.blobs}, {readable_size(found.blob_bytes)}",
                "uploads": str(found.uploads),
            }
        )


class ListsByDefault(click.Group):
    """A group that runs ``list`` when no command is given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put ``list`` before arguments that begin with no command."""
        if not args or args[0] not in {*self.commands, *ctx.help_option_names}:
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=ListsByDefault, epilog=example("ocistore uploads", "ocistore uploads library/alpine"))
def uploads() -> None:
    """List and cancel upload sessions.

    Without a command, lists them.
    """


@uploads.command("list", epilog=example("ocistore uploads list library/alpine"))
@click.argument("repo", required=False, shell_complete=complete_repository)
@json_option
@pass_location
def list_uploads(location: Location, repo: str | None, *, as_json: bool) -> None:
    """List the open upload sessions, of one repository or of all."""
    with location.reading() as store:
        if as_json:
            print_json_lines({"repository": name, **session.to_json()} for name, session in _sessions(store, repo))
            return
        for name, session in _sessions(store, repo):
            touched = session.touched.isoformat(timespec="seconds")
            print_line(f"{name}  {session.id}  {readable_size(session.offset)}  touched {touched}")


@uploads.command("cancel", epilog=example("ocistore uploads cancel library/alpine 0123456789abcdef0123456789abcdef"))
@click.argument("repo", shell_complete=complete_repository)
@click.argument("id", nargs=-1, required=True)
@pass_location
def cancel_uploads(location: Location, repo: str, id: tuple[str, ...]) -> None:  # noqa: A002 - as it is typed
    """Cancel upload sessions, and discard their bytes.

    Garbage collection ends sessions that were not used for seven days, or for as long as was said when
    they began.
    """
    with location.changing() as store:
        for each in id:
            store.repository(repo).cancel_upload(each)


def _sessions(store: Store, repository: str | None) -> Iterator[tuple[str, UploadInfo]]:
    if repository is not None:
        for session in store.repository(repository).uploads():
            yield repository, session
        return
    for name in store.repositories():
        try:
            found = store.repository(name).uploads()
        except RepositoryNotFoundError:  # deleted since it was listed
            continue
        for session in found:
            yield name, session


COMMANDS: Final = (usage, uploads)
