"""Layouts in and out: everything an entry consists of comes along, and comes back the same."""

import itertools
import json
import shutil
from dataclasses import replace

import pytest
from handmade import IMAGE_NAME, REF_NAME, Layout, listed, names, verified
from images import Image, artifact, described, document, image, index, note, push
from state import files, pool, unchanged

from ocistore import (
    Digest,
    InvalidDigestError,
    InvalidNameError,
    ManifestNotFoundError,
    RepositoryNotFoundError,
    Store,
    TagConflictError,
)
from ocistore.oci import mediatypes

ABSENT = b"a layer that lies on somebody's server"


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "layout")


@pytest.fixture
def destination(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def other(tmp_path, empty_store):
    with Store.open(shutil.copytree(empty_store, tmp_path / "other")) as opened:
        yield opened


def everything(store):
    """All that people can ask a store for: by repository, its tags and the bytes of its manifests."""
    found = {}
    for name in store.repositories():
        repository = store.repository(name)
        manifests = {
            descriptor: repository.get_manifest(descriptor.digest).content for descriptor in repository.manifests()
        }
        found[name] = {tag: repository.resolve(tag) for tag in repository.tags()}, manifests
    return found


def with_foreign_layer(name, content=ABSENT):
    plain = image(name)
    body = json.loads(plain.manifest)
    layer_type = mediatypes.OCI_NONDISTRIBUTABLE_LAYER
    body["layers"].append(described(content, layer_type, urls=["https://layers.example/1"]))
    return Image(document(body), plain.blobs)


def in_sha512(name):
    """An image whose layer has a sha512 digest."""
    config, layer = image(name).blobs
    body = json.loads(image(name).manifest)
    body["layers"] = [described(layer, mediatypes.OCI_LAYER, algorithm="sha512")]
    return Image(document(body), (config, layer))


TWO_PLATFORMS = index([image("arm"), image("amd")])
GRAPHS = {
    "image": image(layers=3),
    "image without layers": image(layers=0),
    "index": TWO_PLATFORMS,
    "index in an index": index([index([TWO_PLATFORMS, image("third")]), image("fourth")]),
    "index without children": index(),
    "artifact": artifact(),
    "artifact with an absent subject": artifact(subject=image("elsewhere")),
    "Docker image": image(docker=True),
    "Docker list": index([image("one", docker=True), image("two", docker=True)], docker=True),
    "foreign layer": with_foreign_layer("windows"),
    "one layer twice": Image(
        document({**json.loads(image().manifest), "layers": [described(b"twice")] * 2}), (image().config, b"twice")
    ),
}


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS.keys())
def test_a_graph_goes_in_and_comes_out_as_the_same_bytes(store, layout, destination, graph):
    source = layout.add(graph, "v1").write()
    report = store.import_(source, "library/app")
    assert report.tags == ("library/app:v1",)
    assert store.repository("library/app").resolve("v1").digest == graph.digest
    there = verified(source)
    assert pool(store.root) == there
    written = store.export(destination)
    assert verified(destination) == there
    assert (
        (written.manifests, written.blobs, written.bytes)
        == (report.manifests, report.blobs, report.bytes)
        == (report.manifests, len(there) - report.manifests, sum(map(len, there.values())))
    )


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS.keys())
def test_a_store_that_goes_through_a_layout_is_the_same_store(store, other, destination, graph):
    with store.transaction() as transaction:
        push(transaction.repository("library/app"), graph, "v1", "latest")
        push(transaction.repository("library/app"), image("unrelated"), "v0")
        push(transaction.repository("mirror"), graph, "v1")
    store.export(destination)
    other.import_(destination)
    assert everything(other) == everything(store)
    assert pool(other.root) == pool(store.root)
    with unchanged(store.root):
        store.export(destination)


def test_sha512_blobs_and_manifests_keep_their_digests(store, layout, destination):
    graph = in_sha512("app")
    layout.put(graph, "sha512")
    layout.blob(graph.layers[0], "sha512")
    layout.blob(graph.layers[0]).unlink()
    digest = str(Digest.of(graph.manifest, "sha512"))
    layout.entry(graph, {REF_NAME: "v1"}, digest=digest)
    store.import_(layout.write(), "app")
    assert store.repository("app").resolve("v1").digest == digest
    store.export(destination)
    assert names(destination) == {"v1": digest}
    assert verified(destination).keys() == {digest, str(Digest.of(graph.layers[0], "sha512")), Digest.of(graph.config)}


def test_an_absent_foreign_layer_is_accepted_and_reported_when_it_goes_out(store, layout, destination):
    graph = with_foreign_layer("windows")
    assert store.import_(layout.add(graph, "v1").write(), "app").blobs == 2
    assert store.export(destination).absent == (Digest.of(ABSENT),)
    assert Digest.of(ABSENT) not in verified(destination)


def test_a_foreign_layer_that_is_there_comes_along(store, layout, destination):
    layout.blob(ABSENT)
    assert store.import_(layout.add(with_foreign_layer("windows"), "v1").write(), "app").blobs == 3
    assert store.export(destination).absent == ()
    assert verified(destination)[Digest.of(ABSENT)] == ABSENT


def test_a_layer_that_may_not_be_absent_is_missed_even_where_it_names_urls(store, layout):
    plain = image("app")
    body = json.loads(plain.manifest)
    body["layers"].append(described(ABSENT, mediatypes.OCI_LAYER, urls=["https://layers.example/1"]))
    source = layout.add(Image(document(body), plain.blobs), "v1").write()
    with pytest.raises(Exception, match=f"{Digest.of(ABSENT)} is missing"), unchanged(store.root):
        store.import_(source, "app")


def test_manifests_are_shared_by_tags_and_layers_by_images(store, layout, destination):
    first, second = (
        Image(document({**json.loads(image(name).manifest), "layers": [described(b"base")]}), (config, b"base"))
        for name, config in (("one", image("one").config), ("two", image("two").config))
    )
    layout.add(first, "a").entry(first, {REF_NAME: "b"}).add(second, "c")
    report = store.import_(layout.write(), "app")
    assert report.tags == ("app:a", "app:b", "app:c")
    assert (report.manifests, report.blobs) == (2, 3)
    store.export(destination)
    assert names(destination) == {"a": first.digest, "b": first.digest, "c": second.digest}


def test_one_layout_fills_several_repositories_in_one_import(store, layout):
    shared = image("shared")
    layout.add(shared, "one:v1").entry(shared, {REF_NAME: "two/deep:v1"}).add(image("three"), "three:latest")
    report = store.import_(layout.write())
    assert report.tags == ("one:v1", "three:latest", "two/deep:v1")
    assert list(store.repositories()) == ["one", "three", "two/deep"]
    for name in ("one", "two/deep"):
        with store.repository(name).open_blob(Digest.of(shared.layers[0])) as reader:
            assert reader.read() == shared.layers[0]


def test_entries_of_one_manifest_under_different_digests_are_two_manifests(store, layout):
    graph = note("the same bytes")
    layout.put(graph, "sha512")
    digest = str(Digest.of(graph.manifest, "sha512"))
    layout.entry(graph, {REF_NAME: "b"}, digest=digest).add(graph, "a")
    store.import_(layout.write(), "app")
    repository = store.repository("app")
    assert (repository.resolve("a").digest, repository.resolve("b").digest) == (graph.digest, digest)


def test_a_manifest_that_is_a_layer_too_is_taken_in_as_both(store, layout, destination):
    inner = image("inner")
    outer = Image(
        document({**json.loads(image("outer").manifest), "layers": [described(inner.manifest, inner.media_type)]}),
        (image("outer").config, inner.manifest),
    )
    layout.add(inner, "inner").add(outer, "outer")
    report = store.import_(layout.write(), "app")
    assert (report.manifests, report.blobs) == (2, 3)
    store.export(destination)
    assert verified(destination) == verified(layout.path)


def test_an_import_of_what_is_there_changes_no_file_and_no_tag(store, layout):
    source = layout.add(TWO_PLATFORMS, "v1").write()
    first = store.import_(source, "app")
    before, history = files(store.root), list(store.repository("app").history())
    assert store.import_(source, "app") == replace(first, new_bytes=0)
    assert files(store.root) == before
    assert list(store.repository("app").history()) == history


def test_an_import_moves_tags_that_exist(store, layout, repository):
    push(repository, image("old"), "v1")
    store.import_(layout.add(image("new"), "v1").write(), repository.name)
    assert repository.resolve("v1").digest == image("new").digest
    assert repository.get_manifest(image("old").digest).content == image("old").manifest


def test_an_empty_layout_brings_nothing_and_makes_no_repository(store, layout):
    with unchanged(store.root):
        report = store.import_(layout.write(), "app")
    assert (report.tags, report.untagged, report.manifests, report.blobs, report.bytes) == ((), (), 0, 0, 0)


def test_progress_ends_with_all_bytes_both_ways(store, layout, destination):
    source = layout.add(image(layers=3), "v1").write()
    told = []
    store.import_(source, "app", progress=lambda *step: told.append(step))
    blobs = sum(map(len, image(layers=3).blobs))
    assert told[-1] == (blobs, blobs)
    assert told == sorted(told)
    told.clear()
    report = store.export(destination, progress=lambda *step: told.append(step))
    assert told[-1] == (report.bytes, report.bytes)
    assert told == sorted(told)


def test_progress_moves_within_a_large_blob_both_ways(store, layout, destination):
    size = 64 << 20
    large = bytes(size)
    body = {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_MANIFEST,
        "config": described(b"{}"),
        "layers": [described(large)],
    }
    source = layout.add(Image(document(body), (b"{}", large)), "v1").write()
    del large

    def told_by(call, *arguments, **options):
        told = []
        call(*arguments, progress=lambda *step: told.append(step), **options)
        assert all(before < after for (before, _), (after, _) in itertools.pairwise(told))
        assert {total for _, total in told} == {told[-1][0]}
        steps = [after - before for (before, _), (after, _) in itertools.pairwise([(0, 0), *told])]
        assert max(steps) <= size // 4
        return told[-1][1]

    assert told_by(store.import_, source, "app") == size + 2  # staged
    assert told_by(store.import_, source, "copy") == size + 2  # verified: the store holds it
    assert told_by(store.export, destination, ["app"], mode="copy") == size + 2 + len(document(body))


# --- chosen references ------------------------------------------------------------------------------------------------


@pytest.fixture
def filled(store):
    with store.transaction() as transaction:
        app = transaction.repository("app")
        push(app, image("one"), "v1", "latest")
        push(app, image("two"), "v2")
        push(transaction.repository("tools/x"), image("x"), "v1")
    return store


ONE, TWO, X = (image(name).digest for name in ("one", "two", "x"))
CHOSEN = {
    "all": (None, ["app:latest", "app:v1", "app:v2", "tools/x:v1"], [ONE, TWO, X]),
    "none": ([], [], []),
    "REPO": (["app"], ["app:latest", "app:v1", "app:v2"], [ONE, TWO]),
    "REPO:TAG": (["app:v2"], ["app:v2"], [TWO]),
    "REPO@DIGEST": ([f"app@{ONE}"], [f"app@{ONE}"], [ONE]),
    "REPO:TAG@DIGEST": ([f"app:v1@{ONE}"], ["app:v1"], [ONE]),
    "the same twice": (["app:v2", "app", "app:v2"], ["app:latest", "app:v1", "app:v2"], [ONE, TWO]),
    "of two repositories": (["tools/x:v1", "app:v2"], ["app:v2", "tools/x:v1"], [TWO, X]),
    "by tag and by digest": (["app:v1", f"app@{ONE}"], ["app:v1", f"app@{ONE}"], [ONE]),
    "from a generator": (iter(["app:v2"]), ["app:v2"], [TWO]),
}


@pytest.mark.parametrize(("references", "expected", "digests"), CHOSEN.values(), ids=CHOSEN.keys())
def test_chosen_references_go_out_and_nothing_else(filled, destination, references, expected, digests):
    report = filled.export(destination, references)
    assert report.names == tuple(expected)
    assert report.destination == destination
    assert {entry["digest"] for entry in listed(destination)} == set(digests)
    files_there = {f"{file.parent.name}:{file.name}" for file in destination.glob("blobs/*/*")}
    assert files_there == verified(destination).keys()


def test_an_entry_without_a_tag_has_no_ref_name_and_comes_back_untagged(filled, other, destination):
    filled.export(destination, [f"app@{ONE}"])
    (entry,) = listed(destination)
    assert entry["annotations"] == {IMAGE_NAME: f"app@{ONE}"}
    report = other.import_(destination)
    assert (report.tags, report.untagged) == ((), (f"app@{ONE}",))
    assert other.repository("app").get_manifest(ONE).content == image("one").manifest


NOWHERE = str(Digest.of(b"nowhere"))
WRONG = {
    "no such repository": ("absent:v1", RepositoryNotFoundError, {"name": "absent"}),
    "no such repository, whole": ("absent", RepositoryNotFoundError, {"name": "absent"}),
    "no such tag": ("app:v9", ManifestNotFoundError, {"reference": "v9", "repository": "app"}),
    "tag of another repository": ("tools/x:v2", ManifestNotFoundError, {"reference": "v2"}),
    "no such digest": (f"app@{NOWHERE}", ManifestNotFoundError, {"reference": NOWHERE}),
    "digest of another repository": (f"app@{X}", ManifestNotFoundError, {"reference": X}),
    "digest of a blob": (f"app@{Digest.of(image('one').config)}", ManifestNotFoundError, {}),
    "tag elsewhere": (f"app:v1@{TWO}", TagConflictError, {"name": "v1", "expected": TWO, "actual": ONE}),
    "no tag, but a digest": (f"app:v9@{ONE}", ManifestNotFoundError, {"reference": "v9"}),
    "no name": ("App:v1", InvalidNameError, {"kind": "repository"}),
    "no tag name": ("app:..", InvalidNameError, {"kind": "tag"}),
    "no digest": ("app@sha256:abc", InvalidDigestError, {}),
}


@pytest.mark.parametrize(("reference", "error", "fields"), WRONG.values(), ids=WRONG.keys())
def test_a_reference_that_stands_for_nothing_writes_nothing(filled, destination, reference, error, fields):
    with pytest.raises(error) as caught, unchanged(filled.root):
        filled.export(destination, ["app:v1", reference])
    assert {name: getattr(caught.value, name) for name in fields} == fields
    assert not destination.exists()


def test_a_repository_without_tags_is_exported_by_digest_only(store, destination):
    push(store.repository("untagged"), image("one"))
    digest = image("one").digest
    with pytest.raises(InvalidNameError, match="has no tags; give REPO@DIGEST"):
        store.export(destination, ["untagged"])
    assert not destination.exists()
    assert store.export(destination, [f"untagged@{digest}"]).names == (f"untagged@{digest}",)


def test_one_text_in_the_place_of_a_list_of_references_is_not_taken_for_its_letters(filled, destination):
    push(filled.repository("a"), note("of a repository named like a letter"), "v1")
    with pytest.raises(TypeError, match="references must be a list of texts, not one text"):
        filled.export(destination, "a")
    assert not destination.exists()


# --- referrers --------------------------------------------------------------------------------------------------------

SUBJECT = image("subject")
SBOM = artifact("sbom", subject=SUBJECT)
SIGNATURE = artifact("signature of the sbom", subject=SBOM)
ATTESTED = index([image("attestation")], subject=SIGNATURE)


@pytest.fixture
def referred(store):
    with store.transaction() as transaction:
        app = transaction.repository("app")
        push(app, SUBJECT, "v1")
        for referrer in (SBOM, SIGNATURE, ATTESTED):
            push(app, referrer)
        push(app, artifact("of something else", subject=image("absent")))
        push(transaction.repository("other"), artifact("elsewhere", subject=SUBJECT), "elsewhere")
    return store


def test_referrers_stay_behind_where_told_to_and_are_counted(referred, destination):
    report = referred.export(destination, ["app:v1"], referrers=False)
    assert (report.names, report.referrers_left) == (("app:v1",), 3)
    assert verified(destination).keys() == {SUBJECT.digest, *map(Digest.of, SUBJECT.blobs)}


def test_referrers_come_along_to_any_depth_each_with_an_entry_of_its_own(referred, other, destination):
    report = referred.export(destination, ["app:v1"])
    assert report.referrers_left == 0
    expected = {"app:v1", *(f"app@{referrer.digest}" for referrer in (SBOM, SIGNATURE, ATTESTED))}
    assert set(report.names) == expected
    assert [entry["digest"] for entry in listed(destination) if REF_NAME in entry["annotations"]] == [SUBJECT.digest]
    assert ATTESTED.children[0].digest in verified(destination)
    other.import_(destination)
    repository = other.repository("app")
    for subject, referrer in ((SUBJECT, SBOM), (SBOM, SIGNATURE), (SIGNATURE, ATTESTED)):
        assert [found.digest for found in repository.referrers(subject.digest)] == [referrer.digest]


def test_referrers_of_a_child_of_an_index_come_along(store, destination):
    child = image("child")
    signature = artifact("of the child", subject=child)
    with store.transaction() as transaction:
        push(transaction.repository("app"), index([child]), "v1")
        push(transaction.repository("app"), signature)
    assert f"app@{signature.digest}" in store.export(destination, referrers=True).names


def test_a_referrer_does_not_bring_its_subject(store, destination):
    with store.transaction() as transaction:
        push(transaction.repository("app"), SUBJECT)
        push(transaction.repository("app"), SBOM, "sbom")
    assert store.export(destination, ["app:sbom"], referrers=True).manifests == 1
    assert SUBJECT.digest not in verified(destination)
