"""ocistore scrub."""

import json

import pytest
from click.testing import CliRunner
from images import APP, push

from ocistore import Digest
from ocistore.cli.commands import ocistore

LAYER = Digest.of(APP.layers[0])


@pytest.fixture
def run(store, repository):
    push(repository, APP, "v1")

    def run(*arguments, exit_code=0):
        result = CliRunner().invoke(ocistore, ["--store", str(store.root), *arguments], prog_name="ocistore")
        assert result.exit_code == exit_code, result.output
        return result.output

    return run


def test_scrub_says_what_it_looked_at(run):
    assert run("scrub").splitlines()[0].startswith("checked  3 blobs")
    assert json.loads(run("scrub", "--level", "deep", "--json"))["exitCode"] == 0


def test_scrub_names_the_tags_that_damage_concerns_and_exits_2(run, store, repository):
    (store.root / "blobs" / "sha256" / LAYER.encoded).unlink()
    assert f"damaged: {LAYER}" in run("scrub", "--check", exit_code=2)
    assert f"  concerns {repository.name}:v1" in run("scrub", exit_code=2)
    repository.put_blob(APP.layers[0])
    run("scrub")


def test_scrub_heals_and_exits_1(run, store, tmp_path):
    run("backup", str(tmp_path / "copy"))
    (store.root / "blobs" / "sha256" / LAYER.encoded).unlink()
    assert f"repaired: {LAYER}" in run("scrub", "--heal-from", str(tmp_path / "copy"), exit_code=1)
    run("scrub")


def test_parts_time_and_rate_are_read(run):
    assert "1 blobs" in run("scrub", "--subset", "2/3", "--rate", "1G", "--max-duration", "1m", "--repo", "library/app")
    assert "run it again" in run("scrub", "--max-duration", "0")


@pytest.mark.parametrize(
    "wrong", [("--subset", "0/3"), ("--subset", "4/3"), ("--subset", "x"), ("--rate", "0"), ("--rate", "1T")]
)
def test_a_wrong_part_or_rate_is_refused(run, wrong):
    assert wrong[1] in run("scrub", *wrong, exit_code=2)
