"""The benchmarks run, measure everything they promise, and compare like with like."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.floor import Floor
from benchmarks.harness import Row, Spread, compared, interleave
from benchmarks.images import Image, image_of, small_image, write_layout
from benchmarks.prepared import REPOSITORY, sample, store_of_images, store_of_tags, tag_of
from benchmarks.push import push
from ocistore import ManifestNotFoundError, Store

CHECKOUT = Path(__file__).resolve().parent.parent
ROWS = [
    "put-path",
    "put-file",
    "put-iterator",
    "put-memory",
    "push",
    "push-at-scale",
    "promote",
    "resolve-at-scale",
    "resolve",
    "tag-page",
    "tag-newest",
    "open",
    "import-module",
    "import",
    "export",
    "import-archive",
    "import-archive-memory",
    "import-copied",
    "import-linked",
    "export-linked",
    "export-verified",
    "export-copied",
    "export-tar",
    "push-directory",
    "push-directory-again",
    "import-tagged",
    "import-tagged-flat",
    "lock-new",
    "lock-existing",
    "lock-expect",
    "lock-mount",
    "lock-untag",
    "lock-remove",
    "lock-delete",
    "lock-collect",
    "large-import-memory",
    "large-export-memory",
    "writers",
    "writers-wait",
    "writers-lost",
    "collect-at-scale",
    "collect-nothing",
    "push-beside-collection",
    "recover",
    "scrub",
    "scrub-memory",
    "backup",
]
CLOCK_AND_ACTOR = {"created", "unreferenced_since", "pushed_at", "updated", "at", "actor", "epoch", "identity"}


@pytest.mark.slow
def test_a_quick_run_measures_every_row_and_cleans_up(tmp_path: Path) -> None:
    figures, document, work = tmp_path / "figures.json", tmp_path / "figures.md", tmp_path / "work"
    arguments = ["--quick", "--no-peers", "--work", str(work), "--json", str(figures), "--markdown", str(document)]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "benchmarks", *arguments], cwd=CHECKOUT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    written = json.loads(figures.read_text())
    assert [row["name"] for row in written["rows"]] == ROWS
    assert written["comparable"] is False
    for row in written["rows"]:
        assert row["verdict"] == "meets" or row["verdict"].startswith("short by")
        assert row["ours"]["median"] > 0 or row["name"] in {"writers-lost", "scrub-memory"}
        assert (row["ratio"] is None) == (row["floor"] is None)
        assert row["name"] in done.stdout
        assert f"`{row['name']}`" in document.read_text()
    assert next(row for row in written["rows"] if row["name"] == "writers-lost")["ours"]["maximum"] == 0
    assert [path.name for path in work.iterdir()] == ["prepared"]


def rows_of(root: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every row of a store, with a mark for each instant and name of a user, which two runs do not share."""
    connection = sqlite3.connect(root / "catalog.db")
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found = {}
    for table in tables:
        cursor = connection.execute(f"SELECT * FROM {table}")
        columns = [column[0] for column in cursor.description]
        found[table] = [
            tuple(value is None if name in CLOCK_AND_ACTOR else value for name, value in zip(columns, row, strict=True))
            for row in cursor
        ]
    connection.close()
    return found


def files_of(root: Path) -> dict[str, tuple[bytes, int]]:
    files = (path for path in (root / "blobs").rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): (path.read_bytes(), path.stat().st_mode) for path in files}


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two empty stores: one for the store to write, one for the floor."""
    for name in ("ours", "floor"):
        Store.open(tmp_path / name).close()
    return tmp_path / "ours", tmp_path / "floor"


def test_the_floor_of_a_push_leaves_the_rows_and_files_that_the_store_leaves(pair: tuple[Path, Path]) -> None:
    ours, floor = pair
    images = [small_image("salt", number) for number in range(3)]
    with Store.open(ours) as store, Floor(floor) as bare:
        for number, image in enumerate(images):
            push(store, REPOSITORY, tag_of(number), image)
            bare.push(REPOSITORY, tag_of(number), image)
        assert bare.get_manifest(REPOSITORY, tag_of(2)) == images[2].manifest.content
    assert rows_of(ours) == rows_of(floor)
    assert files_of(ours) == files_of(floor)


def test_the_floor_of_an_import_leaves_the_content_that_the_store_leaves(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    ours, floor = pair
    images = [image_of("salt", 0, 5), image_of("salt", 5, 5)]
    write_layout(tmp_path / "layout", images, names=["a", "b"])
    with Store.open(ours) as store, Floor(floor) as bare:
        store.import_(tmp_path / "layout", REPOSITORY)
        bare.import_layout(tmp_path / "layout", REPOSITORY)
    # Each gives ids in an order of its own.
    by_digest = [
        {table: sorted(map(str, (row[1:] for row in rows[table]))) for table in ("repositories", "blobs", "tag_events")}
        for rows in (rows_of(ours), rows_of(floor))
    ]
    assert by_digest[0] == by_digest[1]
    assert {table: len(rows) for table, rows in rows_of(ours).items()} == {
        table: len(rows) for table, rows in rows_of(floor).items()
    }
    assert files_of(ours) == files_of(floor)


def test_a_prepared_store_of_images_is_as_it_was_after_pushes_into_it(tmp_path: Path) -> None:
    with store_of_images(tmp_path, 5) as root, Store.open(root) as store:
        before = rows_of(root), files_of(root)
        assert list(store.repository(REPOSITORY).tags()) == [tag_of(number) for number in range(5)]
        push(store, REPOSITORY, "new", small_image("new", 0))
        assert rows_of(root) != before[0]
    with store_of_images(tmp_path, 5) as root:
        assert (rows_of(root), files_of(root)) == before


def test_a_prepared_store_of_images_has_the_rows_that_pushes_leave(tmp_path: Path) -> None:
    with Store.open(tmp_path / "pushed") as store:
        for number in range(3):
            push(store, REPOSITORY, tag_of(number), small_image("image", number))
    with store_of_images(tmp_path, 3) as root:
        prepared, pushed = rows_of(root), rows_of(tmp_path / "pushed")
    for table in ("blobs", "repositories", "manifests", "edges", "tag_events"):
        assert prepared[table] == pushed[table]
    assert prepared["repository_edges"] == pushed["repository_edges"]
    for table in ("repository_blobs", "repository_manifests", "tags"):  # but for the collector's queue
        assert [row[:2] for row in prepared[table]] == [row[:2] for row in pushed[table]]


def test_a_prepared_store_of_tags_gives_the_manifests_of_its_sample_and_no_others(tmp_path: Path) -> None:
    root = store_of_tags(tmp_path, 40, readable=10)
    numbers = sample(40, 10)
    with Store.open(root) as store:
        repository = store.repository(REPOSITORY)
        assert len({repository.get_manifest(tag_of(number)).descriptor.digest for number in numbers}) == 10
        with pytest.raises(ManifestNotFoundError):
            repository.get_manifest(tag_of(40))
    assert store_of_tags(tmp_path, 40, readable=10) == root


def test_contenders_take_turns_and_the_first_round_does_not_count() -> None:
    order: list[str] = []

    def contender(name: str, seconds: float) -> float:
        order.append(name)
        return seconds if order.count(name) > 1 else 1000.0

    measured = interleave(2, {"a": lambda _: contender("a", 2.0), "b": lambda _: contender("b", 1.0)})
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert measured == {"a": [2.0, 2.0], "b": [1.0, 1.0]}


def test_a_ratio_is_taken_within_each_round() -> None:
    row = compared("r", "", ours=[2.0, 30.0, 4.0], floor=[1.0, 10.0, 4.0], floor_is="", bound=1.5)
    assert row.ratio == Spread(2.0, 1.0, 3.0)
    assert row.verdict == "short by 33 %"


def row_of(value: float, bound: float) -> Row:
    return Row("r", "work", "", "MiB", Spread(value, value, value), None, None, bound)


@pytest.mark.parametrize(
    ("value", "bound", "verdict"), [(2, 2, "meets"), (3, 2, "short by 50 %"), (4, 0, "short by 4"), (0, 0, "meets")]
)
def test_a_row_without_a_floor_is_held_against_its_bound(value: float, bound: float, verdict: str) -> None:
    assert row_of(value, bound).verdict == verdict


def test_markdown_goes_between_the_marks_and_leaves_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.write_markdown(path, "new")
    assert path.read_text() == f"before\n{report.BEGIN}\nnew\n{report.END}\nafter\n"


def test_markdown_becomes_the_whole_file_where_there_are_no_marks(tmp_path: Path) -> None:
    path = tmp_path / "figures.md"
    report.write_markdown(path, "new")
    assert path.read_text() == "new\n"


def test_the_readme_has_the_marks() -> None:
    text = (CHECKOUT / "benchmarks" / "README.md").read_text()
    assert text.index(report.BEGIN) < text.index(report.END)


def test_an_image_is_the_same_each_time_and_no_other() -> None:
    one: Image = small_image("salt", 1)
    assert one == small_image("salt", 1)
    assert one.manifest.digest not in {small_image("salt", 2).manifest.digest, small_image("other", 1).manifest.digest}
    assert len(one.layers[0].content) == 1024
