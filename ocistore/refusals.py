"""Whose an ``OSError`` is: the operating system's, or somebody else's who raised it in the middle of our work."""

from __future__ import annotations

from types import FrameType
from typing import Final

THEIRS: Final = "_ocistore_theirs"
"""The attribute of an error that an object of the caller's raised."""

_VARIABLE_ARGUMENTS: Final = 0x04
"""In the flags of code: it takes any number of arguments by position (inspect.CO_VARARGS)."""


def is_refusal(error: BaseException | None) -> bool:
    """Whether the operating system refused something, and nobody else raised it.

    The operating system gives every refusal a number. And whoever the interpreter calls between two steps of ours, as a
    signal handler or a tracer, is given the frame that it interrupts.
    """
    if not isinstance(error, OSError) or error.errno is None or getattr(error, THEIRS, False):
        return False
    # The first of them is the frame that caught it, which may itself be a signal handler's, at work with us.
    traceback = error.__traceback__ and error.__traceback__.tb_next
    while traceback is not None:
        if _was_given_a_frame(traceback.tb_frame):
            return False
        traceback = traceback.tb_next
    return True


def _was_given_a_frame(frame: FrameType) -> bool:
    code = frame.f_code
    names = code.co_varnames[: code.co_argcount + bool(code.co_flags & _VARIABLE_ARGUMENTS) + code.co_kwonlyargcount]
    given = [frame.f_locals.get(name) for name in names]
    return any(
        isinstance(one, FrameType) or (isinstance(one, tuple) and any(isinstance(part, FrameType) for part in one))
        for one in given
    )
