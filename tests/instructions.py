"""Interrupts before chosen instructions of the code under test, raised from a trace function.

A signal handler raises where CPython looks for signals: at the beginning of a function, after calls and in loops. What
it raises there is caught by the handler that covers the instruction before, what is raised from a trace function by the
one that covers the next. ``proof/test_interrupts.py`` tries where signals come on this interpreter.
"""

from __future__ import annotations

import dis
import functools
import os
import sys
from typing import TYPE_CHECKING, Self

import ocistore

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

    Counts = Callable[[CodeType, int | None, int], bool]

PACKAGE = os.path.dirname(ocistore.__file__)

UNSAFE = frozenset(
    {"CALL", "CALL_KW", "COPY", "LOAD_CONST", "NOP", "POP_EXCEPT", "PRECALL", "PUSH_EXC_INFO", "RERAISE"}
)
"""Before these a raise may break what no code can cover: the end of a handler, whose exception would stay handled for
ever, and the way from the end of a block to the call that leaves it, which begins with NOP where a loop ends the block:
CPython 3.11 covers that one by no handler at all, not even by those of blocks around."""

_LOOKED_FOR = ("RESUME", "CALL", "PRECALL", "JUMP_BACKWARD", "POP_JUMP_BACKWARD")
_HALF = dis.opmap.get("PRECALL")
"""The first half of a call in 3.11: a signal that is seen at it comes after the second."""


def is_looked_for_signals(instruction: str) -> bool:
    """Whether CPython (3.11 to 3.13) looks for signals when it has done it. What is written in C may do so inside."""
    return instruction.startswith(_LOOKED_FOR)


@functools.cache
def _handlers(code: CodeType) -> dict[int, int]:
    """By instruction that an exception handler covers, where that begins."""
    entries = dis._parse_exception_table(code)  # type: ignore[attr-defined]
    return {at: entry.target for entry in entries for at in range(entry.start, entry.end, 2)}


def where_a_signal_comes(code: CodeType, before: int | None, at: int) -> bool:
    """Whether a signal may be seen there, and what it raises be caught by the same handler."""
    return (
        before is not None
        and code.co_code[before] != _HALF
        and is_looked_for_signals(dis.opname[code.co_code[before]])
        and _handlers(code).get(before) == _handlers(code).get(at)
    )


def anywhere_safe(code: CodeType, before: int | None, at: int) -> bool:
    """There, or before any other instruction but the unsafe ones."""
    return dis.opname[code.co_code[at]] not in UNSAFE or where_a_signal_comes(code, before, at)


def anywhere(code: CodeType, before: int | None, at: int) -> bool:
    """Everywhere."""
    return True


def first_of(function: Callable[..., object], instruction: str = "") -> Counts:
    """Before that function's first instruction whose name begins so."""
    return lambda code, before, at: (
        code is function.__code__ and dis.opname[code.co_code[at]].startswith(instruction)  # type: ignore[attr-defined]
    )


class Interrupted:
    """Raises in the block, before the Nth of the instructions that count; ``reached`` says whether it came so far."""

    def __init__(
        self,
        number: int = 1,
        counts: Counts = anywhere_safe,
        *,
        error: BaseException | type[BaseException] = KeyboardInterrupt,
        below: str = PACKAGE,
    ) -> None:
        """``below`` is the directory of the code whose instructions count."""
        self.left = number
        self.place = ""
        self._counts, self._error, self._below = counts, error, below
        self._before: dict[int, int] = {}
        """By frame: the instruction before. By its id, because nothing may live longer because of this."""

    @property
    def reached(self) -> bool:
        return self.left <= 0

    def _trace(self, frame: FrameType, event: str, argument: object) -> object:
        code, at = frame.f_code, frame.f_lasti
        if not code.co_filename.startswith(self._below):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if event == "call":
            self._before.pop(id(frame), None)
        elif event == "opcode":
            if self._counts(code, self._before.get(id(frame)), at):
                self.left -= 1
                if self.left == 0:
                    self.place = f"{code.co_qualname}:{frame.f_lineno} {dis.opname[code.co_code[at]]}"
                    sys.settrace(None)
                    raise self._error
            self._before[id(frame)] = at
        return self._trace

    def __enter__(self) -> Self:
        sys._getframe().f_trace_opcodes = True  # without which 3.12 sees no instruction of any frame
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)


def count(work: Callable[[], object], counts: Counts = anywhere_safe, *, below: str = PACKAGE) -> int:
    """How many instructions of the work count. It is done twice: of code that was never traced 3.13 tells little."""
    for _ in range(2):
        with Interrupted(sys.maxsize, counts, below=below) as whole:
            work()
    return sys.maxsize - whole.left
