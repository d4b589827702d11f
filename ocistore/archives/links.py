"""Where a path leads among names that are only known from an archive: symbolic links followed without a file system."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

_MAXIMUM_LINKS: Final = 40
"""Links followed on one path: as many as Linux follows (path_resolution(7))."""
MAXIMUM_TARGET: Final = 4095
"""Bytes of what a link leads to: Linux makes none that leads farther (symlink(2))."""
_MAXIMUM_NAMES: Final = 1024
"""Names on one path, those in the links on it included. Each is a step, taken again whenever the path is followed: with
all that Linux would walk through, one small archive could keep a machine busy for hours."""


class Place(NamedTuple):
    """What has a name in an archive: a file, a directory or a link."""

    kind: Literal["directory", "symlink", "other"]
    target: str = ""
    """What a symbolic link leads to."""


class LinkError(Exception):
    """A path leads in a ring, or out of what it must stay in; the text says which, to be written after a name."""


def resolve(path: str, look: Callable[[str], Place | None], *, confined: bool = False, last: bool = True) -> str:
    """Return the path with every link on it followed; what is not there is taken for a directory that could be.

    As in a root file system: an absolute target begins at the top, and above the top there is the top. With
    ``confined``, both are refused, and so is ``..`` after what is no directory: where such a name comes to be one
    later, or a link, the path would lead somewhere else.

    Args:
        path: names joined by ``/``.
        look: what has a name, given as names from the top joined by ``/``; None where nothing has.
        confined: whether the path must stay below the top.
        last: whether the last name is followed too, where it is a link.

    Raises:
        LinkError: it leads in a ring, through too many names, or, with ``confined``, out.
    """
    done: list[str] = []
    waiting = _names(path, confined=confined)
    links = names = 0
    while waiting:
        names += 1
        if names > _MAXIMUM_NAMES:
            raise LinkError(f"it leads through more than {_MAXIMUM_NAMES} names")
        name = waiting.pop()
        if name == "..":
            if confined:
                _refuse_leaving(done, look)
            del done[-1:]
            continue
        done.append(name)
        found = look("/".join(done))
        if found is None or found.kind != "symlink" or not (last or waiting):
            continue
        links += 1
        if links > _MAXIMUM_LINKS:
            raise LinkError("it leads through too many symbolic links, or in a ring")
        done.pop()
        if found.target.startswith("/"):
            done.clear()
        waiting += _names(found.target, confined=confined)
    return "/".join(done)


def _names(path: str, *, confined: bool) -> list[str]:
    """Return the names that a path is made of, the first of them last."""
    if confined and path.startswith("/"):
        raise LinkError("it leads to an absolute path")
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def _refuse_leaving(done: list[str], look: Callable[[str], Place | None]) -> None:
    if not done:
        raise LinkError("it leads out of the directory")
    found = look("/".join(done))
    if found is None or found.kind != "directory":
        raise LinkError(f"it leads through {done[-1]!r:.300}, which is no directory")
