"""Several references at once, several tags, standard input, promotion, history and tables."""

import json
import time

import pytest
from images import note, push

from ocistore import Manifest

NAMES = ("v1", "v2", "v10")


@pytest.fixture
def app(store):
    repository = store.repository("library/app")
    for number, name in enumerate(NAMES):
        push(repository, note(number), name)
        time.sleep(0.002)  # dates are kept in milliseconds
    return repository


def test_untag_removes_several_or_none(run, app):
    assert run.try_("untag", "library/app:v1", "library/app:absent").exit_code == 16
    assert set(app.tags()) == set(NAMES)
    run("untag", "library/app:v1", "library/app:v2")
    assert list(app.tags()) == ["v10"]


def test_rm_deletes_several_and_prints_them(run, app):
    digests = [app.resolve(name).digest for name in ("v1", "v2")]
    printed = run("rm", "library/app:v1", "library/app:v2")
    assert [line for line in printed.splitlines() if line.startswith("deleted")] == [
        f"deleted manifest library/app@{digest}" for digest in digests
    ]
    assert list(app.tags()) == ["v10"]


def test_rm_prints_what_it_deleted_before_it_failed(run, app):
    result = run.try_("rm", "library/app:v1", "library/app@sha256:" + 64 * "0", "library/app:v2", "--json")
    assert result.exit_code == 15
    assert [each["tags"] for each in json.loads(result.stdout)] == [["v1"]]
    assert "v2" in list(app.tags())


def test_show_prints_several(run, app):
    one = json.loads(run("show", "library/app:v1", "--json"))
    assert json.loads(run("show", "library/app:v1", "library/app:v1", "--json")) == [one, one]
    assert run("show", "library/app:v1", "library/app:v2").count("digest ") == 2


def test_push_gives_several_tags(run, store, tmp_path):
    (tmp_path / "file").write_bytes(b"weights")
    digest = run("push", "models/bert:1", tmp_path / "file", "--tag", "latest", "--tag", "stable").strip()
    assert {name: store.resolve(f"models/bert:{name}").digest for name in ("1", "latest", "stable")} == {
        "1": digest,
        "latest": digest,
        "stable": digest,
    }
    assert run.try_("push", "models/bert:2", tmp_path / "file", "--tag", "no tag").exit_code == 10
    assert not list(store.repository("models/bert").tags(prefix="2"))


def test_push_takes_standard_input_and_pull_writes_it(run, store, tmp_path):
    run("push", "backups/app:monday", "-", "--title", "dumps/app.sql", "--tag", "last", stdin=b"insert into")
    run("pull", "backups/app:last", "-o", tmp_path / "out")
    assert (tmp_path / "out" / "dumps" / "app.sql").read_bytes() == b"insert into"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["-"], 2),
        (["-", "file", "--title", "x"], 2),
        (["file", "--title", "x"], 2),
        (["-", "--title", "../x"], 24),
    ],
)
def test_standard_input_is_pushed_alone_and_with_a_title(run, store, arguments, code):
    assert run.try_("push", "app:v1", *arguments, stdin=b"x").exit_code == code
    assert list(store.repositories()) == []


def test_cp_promotes_under_the_same_tag_or_another(run, store, app):
    digest = app.resolve("v1").digest
    assert run("cp", "library/app:v1", "production/app").strip() == digest
    assert json.loads(run("cp", "library/app:v1", "production/app:stable", "--json"))["tag"] == "stable"
    assert store.repository("production/app").tags_of(digest) == ["stable", "v1"]


def test_tag_across_repositories_promotes(run, store, app):
    run("tag", "library/app:v1", "production/app:stable")
    assert store.resolve("production/app:stable") == app.resolve("v1")
    run("tag", "library/app:v1", "library/app:again")
    assert app.resolve("again") == app.resolve("v1")
    assert run.try_("tag", "library/app:v1", "production/app").exit_code == 10
    assert run.try_("tag", "library/app:v1", "production/app:x", "--expected", "none").exit_code == 2


def test_log_shows_the_newest_change_first(run, store, app):
    app.tag("v1", app.resolve("v2").digest)
    push(store.repository("other"), note(7), "x")
    app.untag("v1")
    lines = run("log", "library/app:v1").splitlines()
    assert [line.split()[2] for line in lines] == ["library/app:v1"] * 3
    assert lines[0].split()[5] == "-"
    assert lines[-1].split()[3] == "-"
    events = json.loads(run("log", "--json"))
    assert [event["id"] for event in events] == sorted((event["id"] for event in events), reverse=True)
    assert [(event["repository"], event["tag"]) for event in events[:2]] == [("library/app", "v1"), ("other", "x")]
    assert len(json.loads(run("log", "library/app", "--limit", "2", "--json"))) == 2
    assert run.try_("log", "absent").exit_code == 11


def test_a_pipe_gets_names_alone_and_a_table_where_asked(run, app):
    assert run("tags", "library/app") == "v1\nv10\nv2\n"
    assert run("tags", "library/app", "--sort", "updated", "--limit", "2") == "v10\nv2\n"
    head, *rows = run("tags", "library/app", "--long").splitlines()
    assert head.split() == ["TAG", "DIGEST", "SIZE", "UPDATED", "BY"]
    assert [row.split()[:2] for row in rows] == [[name, app.resolve(name).digest] for name in ("v1", "v10", "v2")]
    head, row = run("repos", "-l").splitlines()
    assert row.split()[:2] == ["library/app", "v10"]
    assert run.try_("repos", "-l", "-q").exit_code == 2


def test_tags_are_sorted_by_size_and_chosen_by_prefix(run, store):
    repository = store.repository("app")
    for name, size in (("a1", 10), ("a2", 3000), ("b", 500)):
        layer = repository.put_blob(bytes(size))
        repository.put_manifest(Manifest.build(layers=[layer], artifact_type="application/x"), tags=[name])
    assert run("tags", "app", "--sort", "size") == "a2\nb\na1\n"
    assert run("tags", "app", "--sort", "size", "--prefix", "a", "--limit", "1") == "a2\n"
    assert run("tags", "app", "-l", "--after", "a1", "--prefix", "a").splitlines()[1].startswith("a2 ")
    assert run.try_("tags", "app", "--sort", "size", "--after", "a1").exit_code == 2


def test_tags_of_a_reference_are_answered_with_the_repository(run, app):
    result = run.try_("tags", "library/app:v1")
    assert result.exit_code == 10
    assert "give a repository, library/app" in result.stderr
