"""cp: from one repository of the store to another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from ocistore import InvalidNameError, Reference
from ocistore.cli.completion import complete_reference
from ocistore.cli.location import Location, pass_location
from ocistore.cli.printing import example, json_option, print_json, print_line

if TYPE_CHECKING:
    from ocistore import Descriptor, Store


def promote(store: Store, source: Reference, target: Reference, *, referrers: bool) -> Descriptor:
    """Copy what one reference stands for to another repository, under the other one's tag."""
    return store.repository(target.repository).copy_from(
        store.repository(source.repository),
        source.target,
        tags=() if target.tag is None else (target.tag,),
        referrers=referrers,
    )


@click.command(
    epilog=example(
        "ocistore cp staging/app:1.2 production/app",
        "ocistore cp staging/app:1.2 production/app:stable",
    )
)
@click.argument("src", shell_complete=complete_reference)
@click.argument("dst", metavar="REPO[:TAG]", shell_complete=complete_reference)
@click.option("--no-referrers", is_flag=True, help="Leave out referrers (signatures, SBOMs).")
@json_option
@pass_location
def cp(location: Location, src: str, dst: str, *, no_referrers: bool, as_json: bool) -> None:
    """Copy a reference to another repository of the store, without moving bytes.

    Copies images of all platforms, and their referrers, in one commit: others see all of it, or nothing. Without a tag
    in REPO[:TAG], the tag of SRC is used; a tag that exists is moved. Prints the digest. To copy to another store, use
    copy.
    """
    source, target = Reference.parse(src), Reference.parse(dst)
    if target.digest is not None:
        reason = "the digest of a copy is that of its source: give REPO or REPO:TAG"
        raise InvalidNameError(dst, kind="reference", reason=reason, unclear=True)
    if target.tag is None:
        target = Reference(target.repository, source.tag)
    with location.changing() as store:
        descriptor = promote(store, source, target, referrers=not no_referrers)
    if as_json:
        print_json({"repository": target.repository, "tag": target.tag, **descriptor.to_json()})
    else:
        print_line(descriptor.digest)


COMMANDS: Final = (cp,)
