"""What went out comes back in: the same digests, whatever the form, and the same archive when it goes out again."""

import pytest
from images import artifact, image, index, push
from state import pool
from test_docker_archives_out import PACKED, PLAIN

from ocistore import Digest, Store

pytestmark = pytest.mark.every_pool


@pytest.fixture
def filled(store):
    with store.transaction() as transaction:
        app = transaction.repository("app")
        push(app, PLAIN, "plain")
        push(app, PACKED, "packed")
        push(app, artifact("sbom", subject=PLAIN))
        nested = index([image("arm"), index([image("amd", architecture="amd64")])])
        push(transaction.repository("multi/x"), nested, "v1")
    return store


def everything(store):
    """Tags with their digests, and all manifests, by repository."""
    return {
        name: (
            {tag: store.repository(name).resolve(tag).digest for tag in store.repository(name).tags()},
            {found.digest for found in store.repository(name).manifests()},
        )
        for name in store.repositories()
    }


@pytest.mark.parametrize("name", ["out", "out.tar", "out.tar.gz", "out.tar.zst"])
def test_a_store_that_goes_through_a_layout_or_an_archive_is_the_same_store(filled, tmp_path, name):
    filled.export(tmp_path / name, referrers=True)
    with Store.open(tmp_path / "other") as other:
        other.import_(tmp_path / name)
        assert everything(other) == everything(filled)
        assert pool(other.root) == pool(filled.root)


def test_updates_cross_an_air_gap(filled, tmp_path):
    filled.export(tmp_path / "first.tar", ["app:plain"], referrers=False)
    with Store.open(tmp_path / "far") as far:
        far.import_(tmp_path / "first.tar")
        report = filled.export(tmp_path / "second.tar", ["app"], base=[tmp_path / "first.tar"], referrers=False)
        assert report.base_blobs == len(PLAIN.blobs)
        far.import_(tmp_path / "second.tar", complete=True)
        assert far.repository("app").resolve("packed").digest == PACKED.digest
        for blob in PACKED.blobs:
            with far.repository("app").open_blob(Digest.of(blob)) as reader:
                assert reader.read() == blob


def test_a_narrowed_index_comes_back_as_it_went_out(filled, tmp_path):
    report = filled.export(tmp_path / "out.tar", ["multi/x"], platforms=["linux/amd64"])
    new = report.replaced[filled.repository("multi/x").resolve("v1").digest]
    with Store.open(tmp_path / "other") as other:
        other.import_(tmp_path / "out.tar")
        assert other.repository("multi/x").resolve("v1").digest == new


@pytest.mark.parametrize("graph", [PLAIN, PACKED], ids=["plain", "packed"])
def test_what_came_in_as_a_docker_archive_goes_out_byte_for_byte(filled, tmp_path, graph):
    name = "plain" if graph is PLAIN else "packed"
    filled.export(tmp_path / "first.tar", [f"app:{name}"], format="docker-archive")
    with Store.open(tmp_path / "other") as other:
        other.import_(tmp_path / "first.tar")
        assert other.repository("app").get_manifest(name).config.digest == Digest.of(graph.config)
        other.export(tmp_path / "second.tar", format="docker-archive")
    assert (tmp_path / "second.tar").read_bytes() == (tmp_path / "first.tar").read_bytes()
