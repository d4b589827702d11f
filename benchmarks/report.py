"""The figures as text, as Markdown and as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from benchmarks.harness import duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from benchmarks.harness import Row, Spread, Unit

BEGIN: Final = "<!-- figures: written by --markdown -->"
END: Final = "<!-- end of figures -->"

_QUICK: Final = "Measured with --quick: too small to be compared with anything."
_HEADINGS: Final = ("work", "ours", "floor", "ratio (min to max)", "must", "verdict")


def as_text(rows: Sequence[Row], machine: Mapping[str, str], *, quick: bool) -> str:
    """A table for a terminal."""
    cells = [_HEADINGS, *((row.name, *_figures(row)) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEADINGS))]
    lines = [f"{name}: {value}" for name, value in machine.items()]
    lines += [_QUICK] * quick
    lines.append("")
    for line, row in zip(cells, (None, *rows), strict=True):
        lines.append("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        if row is not None:
            lines.extend(f"    {note}" for note in _notes(row))
    return "\n".join(lines)


def as_markdown(rows: Sequence[Row], machine: Mapping[str, str], *, quick: bool) -> str:
    """A table for a document."""
    lines = ["; ".join(f"{name}: {value}" for name, value in machine.items()) + ".", ""]
    lines += [f"**{_QUICK}**", ""] * quick
    lines.append("| " + " | ".join(_HEADINGS) + " |")
    lines.append("|---" * len(_HEADINGS) + "|")
    for row in rows:
        floor = f"; floor: {row.floor_is}" if row.floor_is else ""
        lines.append("| " + " | ".join((f"`{row.name}`: {row.what}{floor}", *_figures(row))) + " |")
    lines += ["", "Beside them:", ""]
    lines += [f"- `{row.name}`: {'; '.join(_others(row))}" for row in rows if row.beside or row.peers]
    return "\n".join(lines)


def write_markdown(path: Path, text: str) -> None:
    """Put it between the marks of a file that has them; otherwise it becomes the whole file."""
    old = path.read_text() if path.exists() else ""
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}" if begin and end else f"{text}\n")


def write_json(path: Path, rows: Sequence[Row], machine: Mapping[str, str], *, quick: bool) -> None:
    """Everything that was measured; times in seconds."""
    document = {"machine": dict(machine), "comparable": not quick, "rows": [row.as_json() for row in rows]}
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def _figures(row: Row) -> tuple[str, ...]:
    """The cells behind the first."""
    ratio = "" if row.ratio is None else f"{row.ratio.median:.2f} ({row.ratio.minimum:.2f} to {row.ratio.maximum:.2f})"
    bound = f"≤ {row.bound:g}" if row.ratio is not None else f"≤ {_amount(row.bound, row.unit)}"
    floor = "" if row.floor is None else _spread(row.floor, row.unit)
    return _spread(row.ours, row.unit), floor, ratio, bound, row.verdict


def _spread(spread: Spread, unit: Unit) -> str:
    return _amount(spread.median, unit)


def _amount(value: float, unit: Unit) -> str:
    if unit == "s":
        return duration(value)
    return f"{value:g}" if unit == "count" else f"{value:.3g} {unit}"


def _notes(row: Row) -> list[str]:
    floor = [f"floor: {row.floor_is}"] if row.floor_is else []
    return [row.what, *floor, *_others(row)]


def _others(row: Row) -> list[str]:
    return [f"{name}: {value}" for name, value in (*row.beside.items(), *row.peers.items())]
