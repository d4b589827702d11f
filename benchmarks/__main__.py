"""``python -m benchmarks``: measure, print a table, and write it down."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks import machine, report
from benchmarks.big_blob import big_blob
from benchmarks.big_image import exporting_big_images, importing_big_images
from benchmarks.collection import collecting, pushing_while_collecting, recovering
from benchmarks.directories import pushing_directories
from benchmarks.harness import Setup
from benchmarks.importing import importing
from benchmarks.large_changes import changing_much
from benchmarks.layouts import exporting_layouts, importing_layouts
from benchmarks.lookup import opening, paging, resolving
from benchmarks.push import promoting, pushes
from benchmarks.sizes import FULL, QUICK
from benchmarks.tagged_images import importing_tagged_images
from benchmarks.upkeep import backing_up, scrubbing
from benchmarks.writers import writers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.harness import Row
    from benchmarks.sizes import Sizes

TOPICS: Final[dict[str, Callable[[Setup], list[Row]]]] = {
    "big-blob": big_blob,
    "push": pushes,
    "promote": promoting,
    "resolve": resolving,
    "tag-page": paging,
    "open": opening,
    "import-module": importing,
    "import": importing_layouts,
    "export": exporting_layouts,
    "import-image": importing_big_images,
    "export-image": exporting_big_images,
    "push-directory": pushing_directories,
    "import-tagged": importing_tagged_images,
    "large-change": changing_much,
    "writers": writers,
    "collect": collecting,
    "collect-beside": pushing_while_collecting,
    "recover": recovering,
    "scrub": scrubbing,
    "backup": backing_up,
}

_REMOVERS: Final = 16


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what was asked for. A figure that falls short is said in the table and is no failure of the run."""
    given = _parser().parse_args(arguments)
    sizes = _repeated(QUICK if given.quick else FULL, given.repeat)
    work = given.work or Path(tempfile.gettempdir())
    work.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="ocistore-benchmarks-", dir=work))
    rows: list[Row] = []
    try:
        described = machine.description(scratch)
        for name in given.only or TOPICS:
            started = time.monotonic()
            print(f"{name} ... ", end="", file=sys.stderr, flush=True)
            (scratch / name).mkdir(exist_ok=True)
            prepared = (given.work or scratch) / "prepared"
            rows += TOPICS[name](Setup(scratch / name, prepared, sizes, peers=not given.no_peers))
            print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)
    finally:
        _remove(scratch)
    print(report.as_text(rows, described, quick=given.quick))
    if given.json is not None:
        report.write_json(given.json, rows, described, quick=given.quick)
    if given.markdown is not None:
        report.write_markdown(given.markdown, report.as_markdown(rows, described, quick=given.quick))


def _remove(scratch: Path) -> None:
    """Many directories at once: where deleting a file means to wait for the disk, they wait together."""
    with ThreadPoolExecutor(_REMOVERS) as removers:
        list(removers.map(partial(shutil.rmtree, ignore_errors=True), scratch.glob("*/*")))
    shutil.rmtree(scratch)


def _repeated(sizes: Sizes, repeat: int | None) -> Sizes:
    """With another number of rounds for everything."""
    if repeat is None:
        return sizes
    rounds = {field.name: repeat for field in dataclasses.fields(sizes) if field.name.endswith("_rounds")}
    return dataclasses.replace(sizes, **rounds)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, only to see that everything runs")
    parser.add_argument("--only", action="append", choices=list(TOPICS), help="may be given several times")
    parser.add_argument("--no-peers", action="store_true", help="do not measure other tools")
    parser.add_argument("--repeat", type=_positive, metavar="N", help="rounds of everything")
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="work there, and keep big stores there for the next run"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write them there, between the marks if it has any"
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


if __name__ == "__main__":
    main()
