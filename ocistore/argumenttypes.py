"""Types of arguments: public functions refuse a value of a wrong type with an error that names the argument.

:func:`checks_types` reads what the annotations of a function say, so there is one place where types are declared. They
are read as text: many of them name types that are imported for type checkers only.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")


class _Kind(NamedTuple):
    words: str
    fits: Callable[[Any], bool]


def _is(*types: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, types)


def _has(*names: str) -> Callable[[Any], bool]:
    return lambda value: any(hasattr(value, name) for name in names)


_TEXT: Final = _Kind("text", _is(str))
_NO_LISTS: Final = (str, bytes, bytearray, memoryview, Mapping)
_KINDS: Final = {
    "None": _Kind("None", lambda value: value is None),
    "object": _Kind("anything", lambda _: True),
    "str": _TEXT,
    "Digest": _TEXT,
    "bool": _Kind("True or False", _is(bool)),
    "int": _Kind("an int", lambda value: hasattr(value, "__index__") and not isinstance(value, bool)),
    "bytes": _Kind("bytes", _is(bytes)),
    "bytearray": _Kind("a bytearray", _is(bytearray)),
    "memoryview": _Kind("a memoryview", _is(memoryview)),
    "timedelta": _Kind("a datetime.timedelta, such as timedelta(hours=1)", _is(timedelta)),
    "datetime": _Kind("a datetime.datetime", _is(datetime)),
    "os.PathLike": _Kind("a path", _has("__fspath__")),
    "BinaryIO": _Kind("a binary file", _has("read", "write")),
    "Callable": _Kind("a callable", callable),
    "Mapping": _Kind("a mapping of text to text", _is(Mapping)),
    "Iterable": _Kind("a list", lambda value: isinstance(value, Iterable) and not isinstance(value, _NO_LISTS)),
    "tuple": _Kind("a pair of numbers (n, t)", _is(tuple)),
    "set": _Kind("a set", _is(set)),
    "Pool": _Kind("a pool, as ocistore.pools says", _has("stage")),
    "Source": _Kind(
        "bytes, a path, a binary file or chunks of bytes",
        lambda value: (
            isinstance(value, Iterable | memoryview) or hasattr(value, "read") or hasattr(value, "__fspath__")
        ),
    ),
    "ImportSource": _Kind(
        "a path or a binary file", lambda value: isinstance(value, str) or hasattr(value, "read") or _is_path(value)
    ),
    "Describable": _Kind(
        "a Descriptor, a Manifest or an Index", lambda value: _has("descriptor")(value) or _is_a("Descriptor")(value)
    ),
}
"""What the names in annotations stand for. Any other name is that of a class of ours."""

_ALIASES: Final = {
    "Sequence": "Iterable",
    "Progress": "Callable",
    "TransferMode": "str",
    "ExportFormat": "str",
    "Compression": "str",
    "LayerForm": "str",
    "Missing": "str",
    "Level": "str",
    "Dereference": "bool | str",
}
"""Of choices among texts, :func:`ocistore.arguments.check_choice` says more than a type does."""

_HIDDEN: Final = frozenset({"None", "Unchanged", "AnyValue"})
"""What stands for an argument that is not given: no message names it."""

_PARTS: Final = re.compile(r"\s*([\w.]+)(?:\[(.*)\])?\s*", re.DOTALL)


class _Check(NamedTuple):
    """What an argument may be."""

    words: str
    kinds: tuple[Callable[[Any], bool], ...]
    item: _Check | None
    """What the items of a list may be."""

    def of(self, value: object, name: str) -> None:
        """Raise a TypeError where that is something else."""
        if not any(fits(value) for fits in self.kinds):
            given = "one text" if self.item is not None and isinstance(value, str) else type(value).__name__
            hint = ": os.fsdecode makes text of it" if isinstance(value, bytes) and "a path" in self.words else ""
            raise TypeError(f"{name} must be {self.words}, not {given}{hint}")
        if self.item is not None and isinstance(value, list | tuple):
            for position, item in enumerate(value):
                self.item.of(item, f"{name}[{position}]")


def checks_types(thing: T) -> T:
    """Let a function, or all public methods of a class, check the types of arguments before anything else.

    The decorated function raises ``TypeError``, with the name of the argument, what it must be and what it is.
    """
    if isinstance(thing, FunctionType):
        return cast("T", _checking(thing))
    for name, member in list(vars(thing).items()):
        if name.startswith("_"):
            continue
        if isinstance(member, FunctionType):
            setattr(thing, name, _checking(member))
        elif isinstance(member, classmethod):
            setattr(thing, name, classmethod(_checking(cast("FunctionType", member.__func__))))
    return thing


def _checking(function: FunctionType) -> Callable[..., Any]:
    code = function.__code__
    positional = code.co_varnames[: code.co_argcount]
    checks: dict[str, _Check] = {}

    @functools.wraps(function)
    def checking(*given: Any, **named: Any) -> Any:  # noqa: ANN401 - whatever the function takes and returns
        if not checks:  # only now: a program calls few of all functions
            checks.update(checks_of(function))
        for name, value in zip(positional, given, strict=False):
            if name in checks:
                checks[name].of(value, name)
        for name, value in named.items():
            if name in checks:
                checks[name].of(value, name)
        return function(*given, **named)

    return checking


def checks_of(function: FunctionType) -> dict[str, _Check]:
    """Return what each argument of a function may be, by its name."""
    return {name: _check(kind) for name, kind in function.__annotations__.items() if name != "return"}


def _check(annotation: str) -> _Check:
    words: list[str] = []
    kinds: list[Callable[[Any], bool]] = []
    item: _Check | None = None
    for alternative in _alternatives(annotation):
        match = _PARTS.fullmatch(alternative)
        assert match is not None, annotation
        name, inside = match.groups()
        name = _ALIASES.get(name, name)
        if "|" in name:
            also = _check(name)
            words.append(also.words)
            kinds += also.kinds
            continue
        kind = _KINDS.get(name) or _Kind(_with_article(name), _is_a(name))
        kinds.append(kind.fits)
        if name == "Iterable":
            item = _check(inside or "object")
            words.append(f"a list of {_plural(inside or '')}")
        elif name not in _HIDDEN:
            words.append(kind.words)
    return _Check(_or(words), tuple(kinds), item)


def _alternatives(annotation: str) -> Iterator[str]:
    depth, begin = 0, 0
    for position, character in enumerate(annotation):
        depth += (character == "[") - (character == "]")
        if character == "|" and not depth:
            yield annotation[begin:position]
            begin = position + 1
    yield annotation[begin:]


def _is_a(name: str) -> Callable[[Any], bool]:
    return lambda value: any(kind.__name__ == name for kind in type(value).__mro__)


def _is_path(value: object) -> bool:
    return hasattr(value, "__fspath__")


def _with_article(name: str) -> str:
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def _plural(inside: str) -> str:
    return {"str": "texts", "Describable": "Descriptors, Manifests and Indexes"}.get(inside, "paths")


def _or(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
