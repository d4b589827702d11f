"""docs/clients.md: written from what the table's tests found, and read back as what they have to find."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from clients import CLIENTS
from contents import CONTENTS
from found import (
    CONVERTED,
    ONE_PLATFORM,
    REPACKED,
    SAME,
    SAME_FILES,
    SAME_IMAGE,
    WITHOUT_REFERRERS,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PAGE = Path(__file__).parents[2] / "docs" / "clients.md"
IN = "in"
OUT = "out"
UNKNOWN = "unknown"

MEANINGS = {
    SAME: "every manifest, config and layer, byte for byte, under the same digests and the same tag",
    WITHOUT_REFERRERS: "the artifact is the same; the client leaves out its referrers",
    ONE_PLATFORM: "only the image for this machine, of an index, byte for byte",
    SAME_IMAGE: "the client's storage has the same config and the same unpacked layers; it does not keep packed layers",
    SAME_FILES: "the client unpacked the files in the layers",
    REPACKED: "the client wrote the same config, and packed or described the same layers again: other digests",
    CONVERTED: "the client wrote the same layers, unpacked or packed again, and a config or media types of its own",
}

_BEGINNING = f"""# Real clients

This page shows which content other clients and ocistore exchange unchanged. `tests/clients` runs the clients and
compares the results with this page. Where a client changes content or cannot process it, the page says so; if the
behaviour of a client changes, the test fails.

```
pytest -m clients                            compare
OCISTORE_WRITE_CLIENTS=1 pytest -m clients   write this page again
```

- **{IN}**: the client writes, ocistore imports. The import is byte for byte what the client wrote, tags included,
  and nothing else. The cell says how that differs from what the client was given.
- **{OUT}**: ocistore exports, the client reads. The cell says how the client's content then differs from that of
  the store.

"""


_NAMES = """## Names

The names that each client writes, for the tag `v1` of `library/app` where it accepts a name. *ref.name*
is the annotation `org.opencontainers.image.ref.name`, *image.name* is `io.containerd.image.name`; a Docker archive has
*RepoTags*. [layouts.md](layouts.md) has the rules by which they become repositories and tags.
"""


class Cell(NamedTuple):
    """One place in the table."""

    client: str
    content: str
    form: str
    direction: str

    def __str__(self) -> str:
        """As tests are called by it."""
        return f"{self.client}-{self.form}-{self.direction}-{self.content}".replace(" ", "_")


class Names(NamedTuple):
    """How a client calls what it writes in a form, as the page's last table has it."""

    client: str
    form: str

    def __str__(self) -> str:
        """As tests are called by it."""
        return f"{self.client}-{self.form}".replace(" ", "_")


@dataclass
class Page:
    """All that is said there."""

    outcomes: dict[Cell, str] = field(default_factory=dict)
    names: dict[Names, tuple[str, ...]] = field(default_factory=dict)
    """What is written, and what comes of it when no repository is given."""
    versions: dict[str, str] = field(default_factory=dict)

    def updated(self, found: Page) -> Page:
        """With what was found instead of what was said."""
        return Page(self.outcomes | found.outcomes, self.names | found.names, self.versions | found.versions)


def columns(client: str) -> list[tuple[str, str]]:
    """The forms in which it writes, and those in which it reads."""
    kind = CLIENTS[client]
    forms = dict.fromkeys((*kind.writes, *kind.reads))
    pairs = [(form, direction) for form in forms for direction in (IN, OUT)]
    return [(form, direction) for form, direction in pairs if form in (kind.writes if direction == IN else kind.reads)]


def cells() -> Iterator[Cell]:
    """All that the page has."""
    for client in CLIENTS:
        for form, direction in columns(client):
            for content in CONTENTS:
                yield Cell(client, content, form, direction)


def names() -> Iterator[Names]:
    """The rows of the table of names: who writes what in which form."""
    for client, kind in CLIENTS.items():
        for form in kind.writes:
            yield Names(client, form)


def render(page: Page) -> str:
    """The page; what nobody found out is called unknown."""
    lines = [_BEGINNING.rstrip("\n"), "", "| word | meaning |", "|---|---|"]
    lines += [f"| {word} | {meaning} |" for word, meaning in MEANINGS.items()]
    lines += ["| a number | it is not possible; the numbered note is the error message of the program that refused |"]
    for client in CLIENTS:
        lines += ["", *_section(client, page.outcomes, page.versions.get(client, UNKNOWN))]
    lines += ["", _NAMES.rstrip("\n"), "", "| | written as | imported without a repository as |", "|---|---|---|"]
    for row in names():
        written, imported = page.names.get(row, (UNKNOWN, UNKNOWN))
        lines.append(f"| {row.client}, {row.form} | {written} | {imported} |")
    return "\n".join(lines) + "\n"


def _section(client: str, outcomes: Mapping[Cell, str], version: str) -> Iterator[str]:
    heads = columns(client)
    yield f"## {client}"
    yield ""
    yield f"Tried with: {version}"
    yield ""
    yield "| | " + " | ".join(f"{form}, {direction}" for form, direction in heads) + " |"
    yield "|---" * (len(heads) + 1) + "|"
    notes: list[str] = []
    for content in CONTENTS:
        row = [_shown(outcomes.get(Cell(client, content, *head), UNKNOWN), notes) for head in heads]
        yield f"| {content} | " + " | ".join(row) + " |"
    if notes:
        yield ""
        yield from (f"{number}. `{note}`" for number, note in enumerate(notes, 1))


def _shown(outcome: str, notes: list[str]) -> str:
    if set(outcome.split(", ")) <= MEANINGS.keys():
        return outcome
    if outcome not in notes:
        notes.append(outcome)
    return str(notes.index(outcome) + 1)


def parse(text: str) -> Page:
    """What a page says."""
    page = Page()
    for section in text.split("\n## ")[1:]:
        client, _, body = section.partition("\n")
        if client == "Names":
            rows = [line.strip("| ").split(" | ") for line in body.splitlines() if line.startswith("|")][2:]
            page.names = {Names(*row.split(", ")): tuple(columns_) for row, *columns_ in rows}
            continue
        page.versions[client] = re.findall(r"^Tried with: (.*)$", body, re.MULTILINE)[0]
        notes = dict(re.findall(r"^(\d+)\. `(.*)`$", body, re.MULTILINE))
        heads, _, *rows = (line.strip("| ").split(" | ") for line in body.splitlines() if line.startswith("|"))
        for content, *values in rows:
            for head, value in zip(heads, values, strict=True):
                page.outcomes[Cell(client, content, *head.split(", "))] = notes.get(value, value)
    return page
