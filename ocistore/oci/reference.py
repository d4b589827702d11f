"""Names: repositories, tags, and the references that people type."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ocistore.errors import InvalidNameError
from ocistore.oci.descriptor import Descriptor, digest_of
from ocistore.oci.digest import Digest
from ocistore.oci.jsonvalue import JSONValue

MAXIMUM_REPOSITORY_LENGTH: Final = 255
"""Characters. The distribution specification, "Pulling manifests", names it as the limit of many clients."""
MAXIMUM_TAG_LENGTH: Final = 128
"""Characters, by the grammar of the distribution specification."""

DEFAULT_HOST: Final = "docker.io"
DEFAULT_NAMESPACE: Final = "library"
"""What Docker writes out before a name that has no host, and no slash: ``docker.io/library/busybox``."""

DEFAULT_TAG: Final = "latest"
"""What the name of an image without a tag means to Docker and all that follow it."""

_COMPONENT = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]*", re.ASCII)


def repository_name(text: str) -> str:
    """Return ``text`` where it is the name of a repository (distribution specification, "Pulling manifests").

    Raises:
        InvalidNameError: it is not; ``kind`` is ``repository``.
    """
    if not isinstance(text, str):
        raise InvalidNameError(text, kind="repository", reason="it is not text")
    if len(text) > MAXIMUM_REPOSITORY_LENGTH:
        raise InvalidNameError(
            text,
            kind="repository",
            reason=f"it has {len(text)} characters, at most {MAXIMUM_REPOSITORY_LENGTH} are allowed",
        )
    match = _REPOSITORY.fullmatch(text)
    if match is None:
        raise InvalidNameError(
            text,
            kind="repository",
            reason="it must be lower-case letters and digits, joined by "
            "one of . _ __ or by dashes, in parts that are joined by /",
        )
    return match.group()


def tag_name(text: str) -> str:
    """Return ``text`` where it is a tag (distribution specification, "Pulling manifests").

    Raises:
        InvalidNameError: it is not; ``kind`` is ``tag``.
    """
    if not isinstance(text, str):
        raise InvalidNameError(text, kind="tag", reason="it is not text")
    if len(text) > MAXIMUM_TAG_LENGTH:
        raise InvalidNameError(
            text, kind="tag", reason=f"it has {len(text)} characters, at most {MAXIMUM_TAG_LENGTH} are allowed"
        )
    match = _TAG.fullmatch(text)
    if match is None:
        raise InvalidNameError(text, kind="tag", reason="it must be letters, digits, and . _ - where not first")
    return match.group()


def is_digest(text: str) -> bool:
    """Whether "a tag or a digest" is meant as a digest, which still has to be parsed: no tag contains a colon."""
    return isinstance(text, str) and ":" in text


def tag_or_digest(value: str | Descriptor, *, argument: str) -> str:
    """Return the tag that is given, or the digest, as a :class:`Digest`, which a descriptor gives too.

    Raises:
        InvalidNameError, InvalidDigestError: it is text, and neither.
        TypeError: it is of another type; the error names the argument.
    """
    if isinstance(value, Descriptor):
        return digest_of(value, argument=argument)
    if not isinstance(value, str):
        raise TypeError(f"{argument} must be a tag, a digest or a Descriptor, not {type(value).__name__}")
    return Digest.parse(value) if is_digest(value) else tag_name(value)


def split_host(name: str) -> tuple[str | None, str]:
    """Split ``HOST:PORT/NAME`` into host and name; the host is None where there is none with a port."""
    host, slash, rest = name.partition("/")
    return (host, rest) if slash and ":" in host and "@" not in host else (None, name)


_WITH_PATH = re.compile(r"([^:@]*(?::[^:@]*)?(?:@[^:@]*:[^:@]*)?):(.*)", re.DOTALL)
"""A reference with a tag or digest, and a path after a colon. A colon of the path comes after that one."""


def split_path(text: str) -> tuple[str, str | None]:
    """Split ``REPO:TAG:PATH`` or ``REPO@DIGEST:PATH`` into a reference and a path, which may be None."""
    match = _WITH_PATH.fullmatch(text)
    if match is None or not {":", "@"} & set(match[1]):
        return text, None
    return match[1], match[2]


@dataclass(frozen=True)
class Reference(JSONValue):
    """What a person types: a repository and, in it, a tag, a digest, both or neither.

    Raises:
        InvalidNameError: the repository or the tag is outside the grammar.
        InvalidDigestError: the digest is none that this process can check.
    """

    repository: str
    tag: str | None = None
    digest: Digest | None = None

    def __post_init__(self) -> None:
        repository_name(self.repository)
        if self.tag is not None:
            tag_name(self.tag)
        if self.digest is not None:
            object.__setattr__(self, "digest", Digest.parse(self.digest))

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read ``REPO[:TAG][@DIGEST]``.

        There is no registry in it: ``localhost:5000/app`` is refused, because ``5000/app`` is no tag.

        Raises:
            InvalidNameError, InvalidDigestError: the part of it that is wrong, and why.
        """
        if not isinstance(text, str):
            raise InvalidNameError(text, kind="reference", reason="it is not text")
        name, at, digest = text.partition("@")
        repository, colon, tag = name.partition(":")
        return cls(repository, tag if colon else None, Digest.parse(digest) if at else None)

    @property
    def target(self) -> str:
        """What of it names a manifest: the digest where there is one, as container tools read it, and else the tag.

        Raises:
            InvalidNameError: it names a repository and no more.
        """
        target = self.digest or self.tag
        if target is None:
            reason = "give REPO:TAG or REPO@DIGEST"
            raise InvalidNameError(self.repository, kind="reference", reason=reason, unclear=True)
        return target

    def __str__(self) -> str:
        tag = "" if self.tag is None else f":{self.tag}"
        return f"{self.repository}{tag}" + ("" if self.digest is None else f"@{self.digest}")
