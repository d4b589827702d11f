"""Values and reports as JSON: one way from the fields of a dataclass to an object with keys in camelCase, and back.

Texts, numbers and lists are themselves. A path or digest is text; a time is text in ISO 8601, in UTC; a duration is a
number of seconds, and its key ends in ``Seconds``; bytes are in base64. A field that is None is null. So whatever
:meth:`JSONValue.to_json` returns can be given to ``json.dumps``.
"""

from __future__ import annotations

import base64
import dataclasses
import enum
import functools
import types
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Self, Union, get_args, get_origin, get_type_hints

from ocistore.errors import InvalidDigestError
from ocistore.oci.digest import Digest


class JSONValue:
    """A dataclass that can be written as JSON, and read again."""

    __slots__ = ()

    def to_json(self) -> dict[str, Any]:
        """Return it in parsed JSON: its fields, with keys in camelCase, ready for ``json.dumps``.

        Times are texts in ISO 8601, in UTC; sizes are in bytes; durations are in seconds; what is None is null.
        """
        return {field.key: _written(getattr(self, field.name)) for field in json_fields(type(self))}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], *, path: str = "") -> Self:
        """Make it of parsed JSON, as :meth:`to_json` returns it.

        Args:
            value: the object. What has a default may be missing; nothing else may be there.
            path: where it stood, for errors.

        Raises:
            ValueError: something is missing, unknown or of a wrong type; the error says where.
            ManifestInvalidError: likewise, in a descriptor.
            InvalidNameError: a reference has a name that nothing can have.
        """
        made: Self = read_fields(cls, value, path)
        return made


class JSONField(NamedTuple):
    """A field of a value, and the key that it has in JSON."""

    name: str
    key: str
    hint: Any
    is_required: bool


def _find_fields(cls: Any) -> tuple[JSONField, ...]:  # noqa: ANN401 - a dataclass or a named tuple
    hints = get_type_hints(cls)
    if dataclasses.is_dataclass(cls):
        required = {
            field.name: field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            for field in dataclasses.fields(cls)
        }
    else:
        defaults = cls._field_defaults  # of a NamedTuple
        required = {name: name not in defaults for name in cls._fields}
    return tuple(JSONField(name, _key(name, hints[name]), hints[name], must) for name, must in required.items())


json_fields: Final[Callable[[Any], tuple[JSONField, ...]]] = functools.cache(_find_fields)
"""The fields of a dataclass or named tuple, in order, each with the key that it has in JSON."""


def _key(name: str, hint: object) -> str:
    first, *others = name.split("_")
    is_duration = timedelta in (hint, *get_args(hint))
    return first + "".join(map(str.capitalize, others)) + ("Seconds" if is_duration else "")


def _written(value: Any) -> Any:  # noqa: ANN401 - JSON on one side, any field on the other
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, str | Path):
        return str(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
        return int(seconds) if seconds.is_integer() else seconds
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if hasattr(value, "to_json"):
        return value.to_json()
    if isinstance(value, Mapping):
        return {str(key): _written(item) for key, item in value.items()}
    if hasattr(value, "_fields") or dataclasses.is_dataclass(value):
        return {field.key: _written(getattr(value, field.name)) for field in json_fields(type(value))}
    return [_written(item) for item in value]


def read_fields(cls: Any, value: object, path: str) -> Any:  # noqa: ANN401 - likewise
    """Make a dataclass, or named tuple, of parsed JSON; see :meth:`JSONValue.from_json`."""
    if not isinstance(value, Mapping):
        raise _error(value, "an object", path)
    fields = {field.key: field for field in json_fields(cls)}
    for key in value:
        if key not in fields:
            raise ValueError(f"{_in(path)}{cls.__name__} has no {key!r:.100}")
    for key, field in fields.items():
        if field.is_required and key not in value:
            raise ValueError(f"{_in(path)}{cls.__name__} needs {key}")
    inside = f"{path}." if path else ""
    return cls(
        **{field.name: _read(field.hint, value[key], f"{inside}{key}") for key, field in fields.items() if key in value}
    )


def _read(hint: Any, value: Any, path: str) -> Any:  # noqa: ANN401 - likewise; one line for each kind
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _read_one_of(arguments, value, path)
    if origin is Literal:
        if value not in arguments or type(value) not in map(type, arguments):
            raise _error(value, f"one of {', '.join(map(str, arguments))}", path)
        return value
    if origin in (tuple, list):
        items = _expected(value, list, "a list", path)
        if origin is tuple and arguments[-1] is not ...:
            if len(items) != len(arguments):
                raise _error(value, f"a list of {len(arguments)}", path)
            return tuple(
                _read(each, item, f"{path}[{at}]") for at, (each, item) in enumerate(zip(arguments, items, strict=True))
            )
        return origin(_read(arguments[0], item, f"{path}[{at}]") for at, item in enumerate(items))
    if origin in (Mapping, dict):
        members = _expected(value, Mapping, "an object", path)
        return {
            _read(arguments[0], key, path): _read(arguments[1], item, f"{path}.{key}") for key, item in members.items()
        }
    if hasattr(hint, "from_json"):
        return hint.from_json(value, path=path)
    if dataclasses.is_dataclass(hint) or hasattr(hint, "_fields"):
        return read_fields(hint, value, path)
    return _read_plain(hint, value, path)


def _read_plain(hint: Any, value: Any, path: str) -> Any:  # noqa: ANN401 - likewise
    if hint is type(None):
        return None if value is None else _expected(value, type(None), "null", path)
    if hint is bool:
        return _expected(value, bool, "true or false", path)
    if hint in (int, float, timedelta):
        words = "a whole number" if hint is int else "a number"
        if isinstance(value, bool) or not isinstance(value, int if hint is int else int | float):
            raise _error(value, words, path)
        try:
            return timedelta(seconds=value) if hint is timedelta else hint(value)
        except (OverflowError, ValueError):
            raise _error(value, "a duration in seconds", path) from None
    text = _expected(value, str, "text", path)
    if hint is datetime:
        return _read_time(text, path)
    try:
        if hint is Digest:
            return Digest.parse(text)
        if hint is bytes:
            return base64.b64decode(text, validate=True)
        return text if hint is str else hint(text)  # a path, or a member of an enumeration
    except InvalidDigestError as error:
        raise ValueError(f"{_in(path)}{error}") from error
    except ValueError as error:
        raise _error(value, "base64" if hint is bytes else f"a {hint.__name__}", path) from error


def _read_one_of(hints: Sequence[Any], value: Any, path: str) -> Any:  # noqa: ANN401 - likewise
    if value is None and type(None) in hints:
        return None
    failed: ValueError | None = None
    for hint in hints:
        if hint is not type(None):
            try:
                return _read(hint, value, path)
            except ValueError as error:
                failed = failed or error
    assert failed is not None  # a union has members
    raise failed


def _read_time(text: str, path: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise _error(text, "a time, such as 2026-01-02T03:04:05Z", path)
    return found.astimezone(UTC)


def _expected(value: Any, kind: Any, words: str, path: str) -> Any:  # noqa: ANN401 - likewise
    if not isinstance(value, kind):
        raise _error(value, words, path)
    return value


def _error(value: object, words: str, path: str) -> ValueError:
    return ValueError(f"{_in(path)}{value!r:.100} is not {words}")


def _in(path: str) -> str:
    return f"{path}: " if path else ""
