"""Choosing by name what is imported or exported, and renaming it there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from ocistore.errors import InvalidNameError
from ocistore.oci.digest import Digest
from ocistore.oci.jsonvalue import JSONValue
from ocistore.oci.reference import MAXIMUM_TAG_LENGTH, Reference, repository_name, split_host, tag_name

if TYPE_CHECKING:
    from collections.abc import Iterable

_PATTERN: Final = re.compile(r"[a-zA-Z0-9._\-*?\[\]!]+", re.ASCII)
_WILD: Final = frozenset("*?[")


@dataclass(frozen=True)
class Selector(JSONValue):
    """``REPO[:TAG][@DIGEST][=REPO[:TAG]]``: what is meant, and after the equals sign, what it is to be called.

    Without a tag and a digest, all tags of the repository are meant. The tag may be a pattern, with ``*``, ``?`` and
    ``[...]`` as in a shell; none of these can be part of a tag.
    """

    repository: str
    tag: str | None = None
    """A tag, or a pattern for tags."""
    digest: Digest | None = None
    new_repository: str | None = None
    new_tag: str | None = None
    text: str = ""
    """The text as it was given, for messages."""
    host: str | None = None
    """``HOST:PORT``, where only what was named with it is meant."""

    @classmethod
    def parse(cls, text: str, *, hosts: bool = False) -> Selector:
        """Read one.

        Args:
            text: as above.
            hosts: whether a repository may have ``HOST:PORT/`` before it, as in names that other tools wrote. In the
                store no repository has; before a new name it is left out.

        Raises:
            InvalidNameError, InvalidDigestError: the part of it that is wrong, and why.
        """
        if not isinstance(text, str):
            raise InvalidNameError(text, kind="reference", reason="it is not text")
        meant, equals, called = text.partition("=")
        name, at, digest = meant.partition("@")
        host, name = split_host(name) if hosts else (None, name)
        repository, colon, tag = name.partition(":")
        new_repository, new_colon, new_tag = (split_host(called)[1] if hosts else called).partition(":")
        selector = cls(
            repository_name(repository),
            _tag_or_pattern(tag) if colon else None,
            Digest.parse(digest) if at else None,
            repository_name(new_repository) if equals else None,
            tag_name(new_tag) if new_colon else None,
            text,
            host,
        )
        # In what other tools wrote, a name alone may be that of one thing: the reader knows.
        if selector.new_tag is not None and selector.selects_many and (selector.is_pattern or not hosts):
            raise selector.one_tag_for_several()
        if selector.digest is not None and selector.is_pattern:
            raise InvalidNameError(text, kind="reference", reason="a pattern for tags and a digest")
        return selector

    def one_tag_for_several(self) -> InvalidNameError:
        """Return the error of giving one tag to whatever may be meant."""
        reason = "one new tag for several: name one tag or digest, or give only a new repository"
        return InvalidNameError(self.text, kind="reference", reason=reason)

    @property
    def is_pattern(self) -> bool:
        """Whether ``tag`` is a pattern."""
        return self.tag is not None and not _WILD.isdisjoint(self.tag)

    @property
    def selects_many(self) -> bool:
        """Whether it means all tags of the repository that match, and not one manifest."""
        return self.digest is None and (self.tag is None or self.is_pattern)

    @property
    def reference(self) -> Reference:
        """The one thing that is meant, where it does not select many."""
        return Reference(self.repository, self.tag, self.digest)

    def matches_tag(self, tag: str) -> bool:
        """Whether that tag of the repository is meant, as far as its name says."""
        return self.tag is None or (fnmatchcase(tag, self.tag) if self.is_pattern else tag == self.tag)

    def matches(self, repository: str, tag: str | None, digest: str, *, host: str | None = None) -> bool:
        """Whether something of that name is meant. Untagged content is meant by its digest only."""
        if repository != self.repository or self.host not in (None, host):
            return False
        if self.digest is not None:
            return digest == self.digest and (self.tag is None or tag is None or tag == self.tag)
        return tag is not None and self.matches_tag(tag)

    def renamed(self, repository: str, tag: str | None) -> tuple[str, str | None]:
        """Return the repository and tag to call something, as the selector asks."""
        return self.new_repository or repository, self.new_tag or tag


def selectors(texts: Iterable[str], *, hosts: bool = False) -> list[Selector]:
    """Parse each of them; see :meth:`Selector.parse`.

    Raises:
        InvalidNameError, InvalidDigestError: the part that is wrong, and why.
    """
    return [Selector.parse(text, hosts=hosts) for text in texts]


def _tag_or_pattern(text: str) -> str:
    if _WILD.isdisjoint(text):
        return tag_name(text)
    if _PATTERN.fullmatch(text) is None or len(text) > MAXIMUM_TAG_LENGTH:
        reason = "it must be letters, digits, . _ - and, as in a shell, * ? [...]"
        raise InvalidNameError(text, kind="pattern for tags", reason=reason)
    return text
