"""ocistore gc and ocistore uploads cancel."""

import inspect
import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner
from images import APP, artifact, image, index, push
from state import pool, rows

from ocistore import Digest
from ocistore.catalog import holds
from ocistore.cli import gc as gc_command
from ocistore.cli.commands import ocistore


@pytest.fixture
def run(store):
    def run(*arguments, exit_code=0):
        result = CliRunner().invoke(ocistore, ["--store", str(store.root), *arguments], prog_name="ocistore")
        assert result.exit_code == exit_code, result.output
        return result.stdout if exit_code == 0 else result.stderr

    return run


AT_ONCE = ("--grace", "0", "--keep-untagged", "0")


def test_gc_says_what_it_took(run, store, repository):
    push(repository, APP)
    assert run("gc", *AT_ONCE).splitlines()[0].split()[:3] == ["removed", "3", "blobs,"]
    assert pool(store.root) == {}
    assert json.loads(run("gc", *AT_ONCE, "--json"))["blobs"] == 0


def test_gc_says_what_waits_and_until_when(run, store, repository):
    assert "waiting" not in run("gc")
    push(repository, APP, "v1")
    assert "waiting" not in run("gc")
    run("rm", f"{repository.name}:v1")
    (line,) = [line for line in run("gc", "--grace", "1d").splitlines() if line.startswith("waiting")]
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert line.split()[1:3] == ["3", "blobs,"]
    assert f"{tomorrow:%F}" in line or f"{tomorrow - timedelta(minutes=1):%F}" in line
    assert "--grace 0s removes them now" in line
    assert run("gc", "--grace", "0s").split()[:3] == ["removed", "3", "blobs,"]


def test_the_help_explains_every_word_of_the_output(run, repository):
    push(repository, APP)
    shown = CliRunner().invoke(ocistore, ["gc", "--help"]).stdout
    source = inspect.getsource(gc_command._print)
    words = set(re.findall(r'^ +"(\w+)": ', source, re.MULTILINE)) - {"refused", "left"}
    assert words >= {"waiting", "memberships", "abandoned"}
    assert {word for word in words if not re.search(rf"^ +{word}  ", shown, re.MULTILINE)} == set()


def test_a_dry_run_names_each_blob_and_changes_nothing(run, store, repository):
    push(repository, APP)
    before = rows(store.root)
    lines = run("gc", *AT_ONCE, "--dry-run").splitlines()
    assert any(line.startswith(APP.digest) and "keeps this manifest" in line for line in lines)
    assert rows(store.root) == before


def test_a_dry_run_says_what_a_real_run_would_be_refused_for(run, store, repository):
    push(repository, APP)
    assert "refused" not in run("gc", *AT_ONCE, "--dry-run")
    with store._core.catalog.write() as connection:
        holds.place(connection, "for a reason", now=0)
        holds.place(connection, "over by now", now=0, expires=1)
    assert any(line.split() == ["refused", "for", "a", "reason"] for line in run("gc", "--dry-run").splitlines())
    found = json.loads(run("gc", *AT_ONCE, "--dry-run", "--json"))
    assert (found["refused"], found["blobs"]) == (["for a reason"], 3)


def test_slices_say_that_something_is_left(run, repository):
    push(repository, APP)
    assert "run it again" in run("gc", *AT_ONCE, "--max-batches", "1")


@pytest.mark.parametrize("wrong", ["5", "1y", "-1s", "1.5h", "", "999999999w", "1h\n"])
def test_a_length_of_time_needs_a_unit(run, wrong):
    assert "--grace" in run("gc", "--grace", wrong, exit_code=2)


def test_explain_names_what_keeps_a_manifest(run, repository):
    pushed = index([APP])
    push(repository, pushed, "all")
    push(repository, artifact(subject=APP))
    name = repository.name
    assert "kept: the tag all" in run("gc", "--explain", f"{name}:all")
    child = run("gc", "--explain", APP.digest)
    assert f"the index {pushed.digest} keeps it, and has the tag all" in child
    referrer = run("gc", "--explain", artifact(subject=APP).digest)
    assert f"the subject {APP.digest} keeps it, and has lost what kept it" in referrer
    assert f"the index {pushed.digest} keeps it, and has the tag all" in referrer
    layer = run("gc", "--explain", str(repository.get_manifest(APP.digest).layers[0].digest))
    assert f"the manifest {APP.digest} refers to it" in layer


def test_explain_says_when_something_goes(run, repository, store):
    push(repository, image("old"))
    text = run("gc", "--explain", image("old").digest)
    assert "or was pushed" in text
    assert "until" in text
    text = run("gc", "--explain", image("old").digest, "--keep-untagged", "0")
    assert "removable since" in text
    blob = repository.put_blob(b"loose")
    assert "it was pushed" in run("gc", "--explain", blob.digest)
    [found] = json.loads(run("gc", "--explain", f"{repository.name}@{blob.digest}", "--grace", "0", "--json"))[
        "repositories"
    ]
    assert (found["keptBy"], found["repository"]) == ([], repository.name)


def test_explain_of_a_blob_says_when_it_goes_with_the_manifest_that_refers_to_it(run, repository):
    push(repository, APP, "v1")
    layer = f"{repository.name}@{Digest.of(APP.layers[0])}"

    def explained(*options):
        [found] = json.loads(run("gc", "--explain", layer, "--json", *options))["repositories"]
        return found["keptBy"], found["due"]

    refers = [f"the manifest {APP.digest} refers to it"]
    assert explained() == (refers, None)
    repository.untag("v1")
    kept_by, due = explained()
    assert (kept_by, due is None) == (refers, False)
    kept_by, sooner = explained("--keep-untagged", "0")
    assert kept_by == refers  # for an hour from when the manifest goes
    assert sooner < due
    assert explained(*AT_ONCE)[0] == []


def test_explain_names_a_reason_that_lasts_before_those_that_end(run, repository):
    for number in range(12):
        push(repository, index([APP], annotations={"number": str(number)}), *(["last"] if number == 11 else []))
    [found] = json.loads(run("gc", "--explain", APP.digest, "--json"))["repositories"]
    assert found["due"] is None
    assert len(found["keptBy"]) == 10
    assert found["keptBy"][0].endswith("has the tag last")


def test_explain_of_what_is_condemned_says_that_it_may_go_now(run, repository):
    push(repository, APP)
    for _ in range(3):  # manifests, parts, and condemning them
        run("gc", *AT_ONCE, "--max-batches", "1")
    [found] = json.loads(run("gc", "--explain", APP.digest, "--json"))["repositories"]
    assert (found["repository"], found["keptBy"]) == (None, [])
    assert not found["due"].startswith("1970")


def test_explain_of_what_is_not_there_is_an_error(run, repository):
    push(repository, APP, "v1")
    assert "holds no blob" in run("gc", "--explain", "sha256:" + "0" * 64, exit_code=15)
    assert "no repository" in run("gc", "--explain", "nobody:v1", exit_code=11)
    assert "no manifest" in run("gc", "--explain", f"{repository.name}:v2", exit_code=16)


def test_a_person_confirms_a_catalog_that_was_put_back(run, store, repository):
    with store._core.catalog.write() as connection:
        holds.place(connection, "for a reason", now=0)
    assert "for a reason" in run("gc", exit_code=41)
    run("gc", "--confirm")
    run("gc")


def test_an_upload_is_cancelled_by_its_id(run, store, repository):
    with repository.start_upload() as upload:
        upload.write(b"x")
    run("uploads", "cancel", repository.name, upload.id)
    assert rows(store.root)["uploads"] == []
    assert "no open upload" in run("uploads", "cancel", repository.name, upload.id, exit_code=17)
