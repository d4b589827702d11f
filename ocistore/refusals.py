"""Telling whose an ``OSError`` is: the operating system's, or another's, raised in the middle of our work.

A signal handler may raise a ``TimeoutError`` anywhere, and a source of bytes or a progress callable whatever it likes.
So nothing here catches an ``OSError`` of any class without asking: ``except`` begins with :func:`pass_on_theirs`, and
:class:`Ignoring` replaces ``contextlib.suppress``.
"""

from __future__ import annotations

import io
from types import FrameType
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_P = ParamSpec("_P")
_T = TypeVar("_T")

_THEIRS: Final = "_ocistore_theirs"
"""The attribute that marks an error which an object of the caller's raised."""

_VARIABLE_ARGUMENTS: Final = 0x04
"""In the flags of code: it takes any number of arguments by position (inspect.CO_VARARGS)."""


def is_refusal(error: BaseException | None) -> bool:
    """Whether the operating system refused something, and nobody else raised it.

    The operating system gives every refusal a number; but of a file in which no place could be looked up, the
    interpreter says afterwards that it has no places. And what the interpreter calls between two steps of ours, as a
    signal handler or a tracer, is given the frame that it interrupts.
    """
    if not isinstance(error, OSError) or getattr(error, _THEIRS, False):
        return False
    if error.errno is None and not isinstance(error, io.UnsupportedOperation):
        return False
    # The first of them is the frame that caught it, which may itself be a signal handler's, at work with us.
    traceback = error.__traceback__ and error.__traceback__.tb_next
    while traceback is not None:
        if _was_given_a_frame(traceback.tb_frame):
            return False
        traceback = traceback.tb_next
    return True


def pass_on_theirs(error: BaseException) -> None:
    """Raise an ``OSError`` again that is no refusal, for a caller that is about to make something else of it."""
    if isinstance(error, OSError) and not is_refusal(error):
        raise error


def mark_theirs(error: OSError) -> None:
    """Note that an object of the caller's raised it: it is raised on, and never becomes an error of ours."""
    setattr(error, _THEIRS, True)


def theirs(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Wrap a function of the caller's, such as one that is called with progress, so that its errors stay theirs."""

    def called(*arguments: _P.args, **keywords: _P.kwargs) -> _T:
        try:
            return function(*arguments, **keywords)
        except OSError as error:
            mark_theirs(error)
            raise

    return called


class Ignoring:
    """A block that may end with one of these errors, such as a refusal by the operating system: the rest is left out.

    What somebody else raises in the middle of it is raised unchanged, even if it is of the same class.
    """

    __slots__ = ("_kinds",)

    def __init__(self, *kinds: type[Exception]) -> None:
        self._kinds = kinds or (OSError,)

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        return isinstance(error, self._kinds) and (not isinstance(error, OSError) or is_refusal(error))


def _was_given_a_frame(frame: FrameType) -> bool:
    code = frame.f_code
    names = code.co_varnames[: code.co_argcount + bool(code.co_flags & _VARIABLE_ARGUMENTS) + code.co_kwonlyargcount]
    given = [frame.f_locals.get(name) for name in names]
    return any(
        isinstance(one, FrameType) or (isinstance(one, tuple) and any(isinstance(part, FrameType) for part in one))
        for one in given
    )
