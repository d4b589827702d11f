"""Manifests and indexes: the exact bytes, what is refused, what must be there, deleting, damage, listing."""

import base64
import json
import stat
from datetime import timedelta
from itertools import islice

import pytest
from images import artifact, described, document, image, index, note, push
from invariants import check
from state import pool, rows, unchanged

from ocistore import (
    BlobNotFoundError,
    CorruptError,
    Descriptor,
    Digest,
    DigestMismatchError,
    InvalidDigestError,
    InvalidNameError,
    ManifestBlobUnknownError,
    ManifestInvalidError,
    ManifestNotFoundError,
    ReferencedError,
    RepositoryNotFoundError,
    Store,
    largechanges,
)
from ocistore.blobs.filepool import FilePool
from ocistore.catalog import manifests
from ocistore.oci import mediatypes

pytestmark = pytest.mark.every_pool

APP = image()
ONE = described(APP.config, mediatypes.OCI_CONFIG)
TWO = described(APP.layers[0], mediatypes.OCI_LAYER)


@pytest.fixture
def stocked(repository):
    """A repository with the blobs of ``APP``, and no manifest."""
    for blob in APP.blobs:
        repository.put_blob(blob)
    return repository


def body(**members):
    """An image manifest of what ``stocked`` holds, with members replaced; None leaves one out."""
    whole = {"schemaVersion": 2, "mediaType": mediatypes.OCI_MANIFEST, "config": ONE, "layers": [TWO], **members}
    return {key: value for key, value in whole.items() if value is not None}


def index_body(*children, **members):
    whole = {"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": list(children), **members}
    return {key: value for key, value in whole.items() if value is not None}


def blob_file(store, digest):
    return store.root / "blobs" / digest.algorithm / digest.encoded


# --- the exact bytes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        document(body()),
        json.dumps(body(), indent=3).encode(),
        b"\n \t" + document(dict(reversed(body().items()))) + b" \r\n",
        document(body(annotations={"a": "é"})),  # \u00e9
        json.dumps(body(annotations={"a": "é"}), ensure_ascii=False).encode(),
        document(body(unknown={"nested": [1, 2.50, None]})),
    ],
    ids=["compact", "indented", "another order and space around", "escaped", "not escaped", "unknown members"],
)
def test_a_manifest_comes_back_byte_for_byte(store, stocked, content):
    put = stocked.put_manifest(content, tags=["v1"])
    assert put == Descriptor(mediatypes.OCI_MANIFEST, Digest.of(content), len(content))
    assert stocked.get_manifest("v1").content == content
    assert stocked.get_manifest(put.digest).content == content
    assert pool(store.root)[put.digest] == content


@pytest.mark.needs_files
def test_a_manifest_is_one_read_only_file_and_nothing_is_left_aside(store, repository):
    digest = push(repository, note(1)).digest
    assert stat.S_IMODE(blob_file(store, digest).stat().st_mode) == 0o444
    assert list((store.root / "uploads").iterdir()) == []


def test_what_was_put_is_what_is_resolved_and_got(repository):
    put = push(repository, APP, "v1")
    assert repository.resolve("v1") == repository.resolve(put.digest) == put
    assert repository.get_manifest("v1").descriptor == put


def test_a_manifest_shows_its_parts(repository):
    subject = note("subject")
    pushed = artifact("x", subject=subject, annotations={"k": "v"})
    push(repository, pushed, "x")
    got = repository.get_manifest("x")
    assert (got.media_type, got.artifact_type) == (mediatypes.OCI_MANIFEST, "application/vnd.example.sbom.v1+json")
    assert got.config.digest == Digest.of(b"{}")
    assert [layer.digest for layer in got.layers] == [Digest.of(pushed.layers[0])]
    assert got.subject.digest == subject.digest
    assert got.annotations == {"k": "v"}
    assert got.manifests == ()


def test_an_index_shows_its_children_with_their_platforms(repository):
    push(repository, APP)
    child = described(APP.manifest, APP.media_type, platform={"architecture": "arm64", "os": "linux", "variant": "v8"})
    repository.put_manifest(document(index_body(child)), tags=["all"])
    (listed,) = repository.get_manifest("all").manifests
    assert (listed.digest, str(listed.platform)) == (APP.digest, "linux/arm64/v8")


@pytest.mark.parametrize(
    ("pushed", "media_type"),
    [
        (image("a"), mediatypes.OCI_MANIFEST),
        (image("a", docker=True), mediatypes.DOCKER_MANIFEST),
        (index([image("a")]), mediatypes.OCI_INDEX),
        (index([image("a", docker=True)], docker=True), mediatypes.DOCKER_LIST),
        (artifact("a"), mediatypes.OCI_MANIFEST),
        (index([index([image("a")])]), mediatypes.OCI_INDEX),
    ],
    ids=["image", "docker image", "index", "docker list", "artifact", "index of an index"],
)
def test_every_kind_of_manifest_is_stored_under_its_own_media_type(repository, pushed, media_type):
    put = push(repository, pushed, "it")
    assert put.media_type == repository.resolve("it").media_type == media_type


@pytest.mark.parametrize(
    ("content", "given", "found"),
    [
        (body(mediaType=None), None, mediatypes.OCI_MANIFEST),
        (body(mediaType=None), mediatypes.OCI_MANIFEST, mediatypes.OCI_MANIFEST),
        (body(), mediatypes.OCI_MANIFEST, mediatypes.OCI_MANIFEST),
        (index_body(mediaType=None), None, mediatypes.OCI_INDEX),
        (index_body(mediaType=None), mediatypes.OCI_INDEX, mediatypes.OCI_INDEX),
    ],
)
def test_the_media_type_comes_from_the_body_or_from_the_caller(stocked, content, given, found):
    assert stocked.put_manifest(document(content), media_type=given).media_type == found


@pytest.mark.parametrize("algorithm", ["sha256", "sha512", "blake3"])
def test_a_manifest_is_stored_under_the_algorithm_of_the_digest_it_comes_with(store, stocked, algorithm):
    digest = Digest.of(APP.manifest, algorithm)
    assert stocked.put_manifest(APP.manifest, digest=str(digest), tags=["v1"]).digest == digest
    assert stocked.get_manifest(str(digest)).content == APP.manifest
    assert stocked.resolve("v1").digest == digest
    assert pool(store.root)[digest] == APP.manifest


def test_a_manifest_may_refer_to_blobs_by_any_algorithm(repository):
    repository.put_blob(b"config", algorithm="sha512")
    repository.put_blob(b"layer", algorithm="blake3")
    config = described(b"config", "application/x", algorithm="sha512")
    layer = described(b"layer", "application/x", algorithm="blake3")
    put = repository.put_manifest(document(body(config=config, layers=[layer])))
    assert repository.get_manifest(put.digest).layers[0].digest.algorithm == "blake3"


def test_a_repository_exists_from_its_first_manifest(store, repository):
    push(repository, note(1))
    assert list(store.repositories()) == ["library/app"]


def test_a_manifest_put_again_changes_no_row_but_its_grace_and_makes_no_event(store, repository):
    push(repository, APP, "v1")
    before = rows(store.root)
    push(repository, APP, "v1")
    after = rows(store.root)
    for table in ("blobs", "manifests", "edges", "tags", "tag_events", "repositories"):
        assert after[table] == before[table], table


def test_two_repositories_share_the_bytes_of_a_manifest_and_nothing_else(store, repository):
    push(repository, APP, "v1")
    other = store.repository("other")
    push(other, APP, "v2")
    assert len(pool(store.root)) == 3
    repository.delete_manifest(APP.digest)
    assert other.get_manifest("v2").content == APP.manifest
    with pytest.raises(ManifestNotFoundError):
        repository.get_manifest(APP.digest)


def test_the_same_layer_twice_is_a_manifest_like_any_other(stocked):
    put = stocked.put_manifest(document(body(layers=[TWO, TWO])))
    assert [layer.digest for layer in stocked.get_manifest(put.digest).layers] == [TWO["digest"]] * 2


def test_tags_given_with_a_manifest_are_set_each_once(repository):
    digest = repository.put_manifest(note(1).manifest, tags=["b", "a", "b"]).digest
    events = [(event.tag, event.old, event.new) for event in repository.history()]
    assert events == [("a", None, digest), ("b", None, digest)]
    assert list(repository.tags()) == ["a", "b"]


def test_one_bad_tag_refuses_the_manifest_and_all_its_tags(store, repository):
    push(repository, note(1))
    with unchanged(store.root), pytest.raises(InvalidNameError) as caught:
        repository.put_manifest(note(2).manifest, tags=["good", "../bad"])
    assert (caught.value.name, caught.value.kind) == ("../bad", "tag")


# --- what must be there -----------------------------------------------------------------------------------------------


def test_everything_that_is_missing_is_listed_once_and_in_order(store, repository):
    held, layers = b"held", [b"first", b"second", b"first"]
    repository.put_blob(held)
    content = document(body(config=described(b"config"), layers=[described(it) for it in (layers[0], held, *layers)]))
    with unchanged(store.root), pytest.raises(ManifestBlobUnknownError) as caught:
        repository.put_manifest(content, tags=["v1"])
    assert caught.value.missing == tuple(Digest.of(it) for it in (b"config", b"first", b"second"))
    assert caught.value.repository == "library/app"


@pytest.mark.parametrize("missing", [0, 1], ids=["config", "layer"])
def test_a_manifest_lacking_one_blob_is_refused(store, repository, missing):
    repository.put_blob(APP.blobs[1 - missing])
    with unchanged(store.root), pytest.raises(ManifestBlobUnknownError) as caught:
        repository.put_manifest(APP.manifest)
    assert caught.value.missing == (Digest.of(APP.blobs[missing]),)


def test_a_refused_manifest_makes_no_repository(store, repository):
    with pytest.raises(ManifestBlobUnknownError):
        repository.put_manifest(APP.manifest)
    assert list(store.repositories()) == []


def test_a_refused_manifest_can_be_put_once_its_blobs_are_there(repository):
    with pytest.raises(ManifestBlobUnknownError):
        repository.put_manifest(APP.manifest)
    push(repository, APP, "v1")
    assert repository.get_manifest("v1").content == APP.manifest


def test_blobs_of_another_repository_do_not_count(store, repository):
    push(store.repository("other"), APP)
    with pytest.raises(ManifestBlobUnknownError) as caught:
        repository.put_manifest(APP.manifest)
    assert caught.value.missing == tuple(Digest.of(blob) for blob in APP.blobs)


def test_what_another_repository_holds_is_not_betrayed_by_a_wrong_size(store, stocked):
    digest = store.repository("other").put_blob(b"secret").digest
    guess = {"mediaType": "application/x", "digest": digest, "size": 99}
    with pytest.raises(ManifestBlobUnknownError):
        stocked.put_manifest(document(body(layers=[guess])))


FOREIGN = [
    mediatypes.DOCKER_FOREIGN_LAYER,
    mediatypes.OCI_NONDISTRIBUTABLE_LAYER,
    mediatypes.OCI_NONDISTRIBUTABLE_LAYER_GZIP,
    mediatypes.OCI_NONDISTRIBUTABLE_LAYER_ZSTD,
]


@pytest.mark.parametrize("media_type", FOREIGN)
def test_a_foreign_layer_need_not_be_here(stocked, media_type):
    layer = described(b"elsewhere", media_type, urls=["https://layers.example/1"])
    put = stocked.put_manifest(document(body(layers=[TWO, layer])))
    assert stocked.get_manifest(put.digest).layers[1].urls == ("https://layers.example/1",)
    with pytest.raises(BlobNotFoundError):
        stocked.stat_blob(layer["digest"])


@pytest.mark.parametrize(
    "layer",
    [
        described(b"elsewhere", mediatypes.OCI_NONDISTRIBUTABLE_LAYER),
        described(b"elsewhere", mediatypes.OCI_NONDISTRIBUTABLE_LAYER, urls=[]),
        described(b"elsewhere", mediatypes.OCI_LAYER, urls=["https://layers.example/1"]),
        described(b"elsewhere", mediatypes.OCI_NONDISTRIBUTABLE_LAYER, urls=["not a url"]),
    ],
    ids=["no urls", "empty urls", "urls but distributable", "no urls in urls"],
)
def test_a_layer_that_is_not_wholly_foreign_must_be_here(stocked, layer):
    with pytest.raises(ManifestBlobUnknownError) as caught:
        stocked.put_manifest(document(body(layers=[layer])))
    assert caught.value.missing == (layer["digest"],)


def test_a_foreign_layer_that_arrives_later_is_served_like_any_other(stocked):
    layer = described(b"elsewhere", mediatypes.OCI_NONDISTRIBUTABLE_LAYER, urls=["https://layers.example/1"])
    stocked.put_manifest(document(body(layers=[layer])))
    stocked.put_blob(b"elsewhere")
    assert stocked.stat_blob(layer["digest"]).size == 9


def test_a_subject_need_not_be_here(repository):
    put = push(repository, artifact(subject=APP))
    assert repository.get_manifest(put.digest).subject.digest == APP.digest
    with pytest.raises(ManifestNotFoundError):
        repository.resolve(APP.digest)


def test_children_of_an_index_must_be_here_and_all_missing_ones_are_listed(store, repository):
    here, absent, also = note(1), note(2), note(3)
    push(repository, here)
    push(store.repository("other"), also)
    with pytest.raises(ManifestBlobUnknownError) as caught:
        repository.put_manifest(index([absent, here, also]).manifest)
    assert caught.value.missing == (absent.digest, also.digest)


def test_children_of_an_index_must_be_manifests_here_and_not_only_blobs(repository):
    repository.put_blob(note(1).manifest)
    with pytest.raises(ManifestBlobUnknownError):
        repository.put_manifest(index([note(1)]).manifest)


def test_config_and_layers_must_be_blobs_here_and_not_only_manifests(repository):
    push(repository, note(1))
    repository.put_blob(b"{}")
    layer = described(note(1).manifest, mediatypes.OCI_INDEX)
    with pytest.raises(ManifestBlobUnknownError):
        repository.put_manifest(document(body(config=described(b"{}"), layers=[layer])))


WRONG_SIZES = {
    "config": body(config={**ONE, "size": ONE["size"] + 1}),
    "layer": body(layers=[{**TWO, "size": TWO["size"] - 1}]),
    "manifest": index_body({**described(note(1).manifest, mediatypes.OCI_INDEX), "size": 1}),
    "subject": body(subject={**described(note(1).manifest, mediatypes.OCI_INDEX), "size": 1}),
}


@pytest.mark.parametrize(("role", "content"), WRONG_SIZES.items())
def test_a_size_other_than_that_of_what_is_here_is_refused(store, stocked, role, content):
    push(stocked, note(1))
    with unchanged(store.root), pytest.raises(ManifestInvalidError, match=f"{role} sha256:.* bytes, not"):
        stocked.put_manifest(document(content))


# --- what a manifest may look like ------------------------------------------------------------------------------------


def nested(depth):
    return b'{"schemaVersion":2,"deep":' + b"[" * depth + b"]" * depth + b"}"


HALF = document(body())[:-2]
REFUSED = {
    # case: content, media type given, where in the document, what the reason says
    "empty": (b"", None, "", "not JSON"),
    "truncated": (HALF, None, "", "not JSON"),
    "two documents": (document(body()) * 2, None, "", "not JSON"),
    "an array": (b"[]", None, "", "not an object"),
    "byte order mark": (b"\xef\xbb\xbf" + document(body()), None, "", "byte order mark"),
    "UTF-16": (document(body()).decode().encode("utf-16"), None, "", "byte order mark"),
    "UTF-16 without mark": (document(body()).decode().encode("utf-16-le"), None, "", ""),
    "not UTF-8": (document(body())[:-1] + b',"x":"\xff"}', None, "", "not UTF-8"),
    "half a surrogate pair": (document(body())[:-1] + b',"x":"\\ud800"}', None, "", "surrogate"),
    "duplicate key": (b'{"schemaVersion":2,"schemaVersion":2,"manifests":[]}', None, "", "twice"),
    "duplicate key inside": (document(index_body())[:-1] + b',"annotations":{"a":"1","a":"2"}}', None, "", "twice"),
    "a key in another case": (document(index_body(Manifests=[])), None, "", "case"),
    "NaN": (document(index_body())[:-1] + b',"x":NaN}', None, "", "NaN"),
    "infinity": (document(index_body())[:-1] + b',"x":1e999}', None, "", "too large"),
    "a number of 1,000 digits": (document(index_body())[:-1] + b',"x":' + b"9" * 1000 + b"}", None, "", "characters"),
    "nested 65 deep": (nested(64), None, "", "nested deeper"),
    "nesting bomb": (b"[" * 2_000_000, None, "", "nested deeper"),
    "4 MiB and one byte": (b" " * (4 * 1024 * 1024 + 1), None, "", "at most 4194304"),
    "10,001 descriptors": (document(body(layers=[TWO] * 10_000)), None, "layers", "at most 10000"),
    "schema version 1": (document(body(schemaVersion=1)), None, "schemaVersion", "2"),
    "schema version true": (document(body(schemaVersion=True)), None, "schemaVersion", "2"),
    "schema version 2.0": (document(body(schemaVersion=2.0)), None, "schemaVersion", "2"),
    "no schema version": (document(body(schemaVersion=None)), None, "schemaVersion", "2"),
    "no way to tell what it is": (b'{"schemaVersion":2}', None, "", "neither"),
    "given another type": (document(body()), mediatypes.OCI_INDEX, "mediaType", "came as"),
    "given another type of image": (document(body()), mediatypes.DOCKER_MANIFEST, "mediaType", "came as"),
    "docker without mediaType": (document(body(mediaType=None)), mediatypes.DOCKER_MANIFEST, "mediaType", "itself"),
    "docker schema 1": (document(body(mediaType=mediatypes.DOCKER_SCHEMA1)), None, "mediaType", "first version"),
    "not a manifest type": (document(body(mediaType="application/json")), None, "mediaType", "not a type of manifest"),
    "given type with parameters": (document(body()), f"{mediatypes.OCI_MANIFEST}; q=1", "", "not a media type"),
    "not a media type": (document(body(mediaType="manifest")), None, "mediaType", "not a media type"),
    "index with layers": (document(index_body(layers=[])), None, "layers", "no layers"),
    "index with config": (document(index_body(config=ONE)), None, "config", "no config"),
    "image with manifests": (document(body(manifests=[])), None, "manifests", "no manifests"),
    "untyped, manifests and layers": (document(body(mediaType=None, manifests=[])), None, "config", "no config"),
    "image without config": (document(body(config=None)), None, "", "needs config"),
    "image without layers": (document(body(layers=None)), None, "layers", "missing"),
    "layers not a list": (document(body(layers={})), None, "layers", "not a list"),
    "layer not an object": (document(body(layers=[TWO, 1])), None, "layers[1]", "not an object"),
    "no size": (document(body(config={**ONE} | {"size": None})), None, "config.size", "not a size"),
    "negative size": (document(body(config={**ONE, "size": -1})), None, "config.size", "not a size"),
    "fractional size": (document(body(layers=[{**TWO, "size": 1.5}])), None, "layers[0].size", "not a size"),
    "size as text": (document(body(layers=[{**TWO, "size": "5"}])), None, "layers[0].size", "not a size"),
    "size true": (document(body(layers=[{**TWO, "size": True}])), None, "layers[0].size", "not a size"),
    "size beyond int64": (document(body(layers=[{**TWO, "size": 2**63}])), None, "layers[0].size", "not a size"),
    "digest in upper case": (
        document(body(config={**ONE, "digest": ONE["digest"].upper()})),
        None,
        "config.digest",
        "not a digest",
    ),
    "digest of md5": (document(body(config={**ONE, "digest": "md5:" + "0" * 32})), None, "config.digest", "unknown"),
    "digest too short": (
        document(body(config={**ONE, "digest": ONE["digest"][:-1]})),
        None,
        "config.digest",
        "hexadecimal digits",
    ),
    "digest that climbs": (
        document(body(config={**ONE, "digest": "sha256:../../../../etc/passwd"})),
        None,
        "config.digest",
        "form",
    ),
    "data of another digest": (
        document(body(config={**ONE, "data": base64.b64encode(bytes(ONE["size"])).decode()})),
        None,
        "config.data",
        "has digest",
    ),
    "data of another size": (document(body(config={**ONE, "data": "AAAA"})), None, "config.data", "bytes"),
    "data not base64": (document(body(config={**ONE, "data": "?"})), None, "config.data", "base64"),
    "subject not a descriptor": (document(body(subject="x")), None, "subject", "not an object"),
    "annotation not text": (document(body(annotations={"a": 1})), None, "annotations", "not text"),
    "artifact type not a media type": (document(body(artifactType="sbom")), None, "artifactType", "not a media type"),
    "platform without os": (
        document(index_body({**described(b"x"), "platform": {"architecture": "arm64"}})),
        None,
        "manifests[0].platform",
        "needs architecture and os",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_a_manifest_is_refused_where_it_is_wrong_and_changes_nothing(store, stocked, case):
    content, given, path, reason = REFUSED[case]
    with unchanged(store.root), pytest.raises(ManifestInvalidError) as caught:
        stocked.put_manifest(content, media_type=given, tags=["v1"])
    assert caught.value.path == path
    assert reason in caught.value.reason


def test_a_manifest_of_exactly_4_mib_is_stored(stocked):
    content = APP.manifest + b" " * (4 * 1024 * 1024 - len(APP.manifest))
    assert stocked.put_manifest(content).size == 4 * 1024 * 1024


def test_a_manifest_of_exactly_10_000_descriptors_is_stored(store, stocked):
    put = stocked.put_manifest(document(body(layers=[TWO] * 9_999)))
    assert len(stocked.get_manifest(put.digest).layers) == 9_999
    assert len(rows(store.root)["edges"]) == 10_000


def test_bytes_of_another_digest_are_refused_and_change_nothing(store, stocked):
    announced = Digest.of(b"something else", "sha512")
    with unchanged(store.root), pytest.raises(DigestMismatchError) as caught:
        stocked.put_manifest(APP.manifest, digest=announced)
    assert (caught.value.expected, caught.value.actual) == (announced, Digest.of(APP.manifest, "sha512"))


# --- deleting ---------------------------------------------------------------------------------------------------------


def test_a_deleted_manifest_goes_with_the_tags_that_point_at_it_and_no_others(repository):
    push(repository, note(1), "a", "b")
    push(repository, note(2), "c")
    repository.delete_manifest(note(1).digest)
    assert list(repository.tags()) == ["c"]
    for reference in (note(1).digest, "a"):
        with pytest.raises(ManifestNotFoundError) as caught:
            repository.get_manifest(reference)
        assert (caught.value.reference, caught.value.repository) == (reference, "library/app")
    assert [found.digest for found in repository.manifests()] == [note(2).digest]


def test_the_blobs_of_a_deleted_manifest_stay_in_the_repository(repository):
    push(repository, APP)
    repository.delete_manifest(APP.digest)
    assert repository.stat_blob(Digest.of(APP.config)).size == len(APP.config)


def test_a_deleted_manifest_can_be_put_again(repository):
    push(repository, APP, "v1")
    repository.delete_manifest(APP.digest)
    push(repository, APP, "v2")
    assert repository.get_manifest("v2").content == APP.manifest
    assert list(repository.tags()) == ["v2"]


def test_deleting_a_manifest_that_is_not_here_is_refused(store, repository):
    push(repository, note(1))
    push(store.repository("other"), note(2))
    for digest in (note(2).digest, note(3).digest):
        with unchanged(store.root), pytest.raises(ManifestNotFoundError) as caught:
            repository.delete_manifest(digest)
        assert (caught.value.reference, caught.value.repository) == (digest, "library/app")


def test_a_manifest_in_an_index_is_not_deleted_and_the_error_lists_every_such_index(store, repository):
    child = note("child")
    first, second = index([child], annotations={"n": "1"}), index([child], annotations={"n": "2"})
    push(repository, first)
    push(repository, second)
    push(repository, child, "tagged")
    with unchanged(store.root), pytest.raises(ReferencedError) as caught:
        repository.delete_manifest(child.digest)
    assert caught.value.referrers == tuple(sorted([first.digest, second.digest]))
    assert (caught.value.digest, caught.value.repository) == (child.digest, "library/app")


def test_a_manifest_in_an_index_of_another_repository_can_be_deleted(store, repository):
    child = note("child")
    push(store.repository("other"), index([child]))
    push(repository, child)
    repository.delete_manifest(child.digest)
    assert store.repository("other").get_manifest(child.digest).content == child.manifest


def test_a_manifest_can_be_deleted_when_its_last_index_is_gone(repository):
    child = note("child")
    parent = index([child])
    push(repository, parent)
    repository.delete_manifest(parent.digest)
    repository.delete_manifest(child.digest)
    assert list(repository.manifests()) == []


def test_a_subject_can_be_deleted_while_referrers_remain(repository):
    push(repository, APP)
    push(repository, artifact(subject=APP))
    repository.delete_manifest(APP.digest)
    assert [found.digest for found in repository.manifests()] == [artifact(subject=APP).digest]


# --- damage -----------------------------------------------------------------------------------------------------------


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    replace(path, bytes(content))


def replace(path, content):
    path.chmod(0o600)
    path.write_bytes(content)


DAMAGE = {
    "missing": lambda path: path.unlink(),
    "truncated": lambda path: replace(path, path.read_bytes()[:-1]),
    "empty": lambda path: replace(path, b""),
    "grown": lambda path: replace(path, path.read_bytes() + b" "),
    "another of the same size": flip,
}


@pytest.mark.needs_files
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_manifest_is_never_served(store, repository, damage):
    push(repository, APP, "v1")
    damage(blob_file(store, APP.digest))
    for reference in ("v1", APP.digest):
        with pytest.raises(CorruptError, match=APP.digest.encoded):
            repository.get_manifest(reference)


@pytest.mark.needs_files
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("by", ["library/app", "another"])
def test_pushing_a_damaged_manifest_again_heals_it_wherever_it_is_served(store, repository, damage, by):
    push(repository, APP, "v1")
    damage(blob_file(store, APP.digest))
    push(store.repository(by), APP)
    assert repository.get_manifest("v1").content == APP.manifest
    assert stat.S_IMODE(blob_file(store, APP.digest).stat().st_mode) == 0o444


@pytest.mark.needs_files
def test_deleting_works_on_a_manifest_whose_file_is_gone(store, repository):
    push(repository, APP, "v1")
    blob_file(store, APP.digest).unlink()
    repository.delete_manifest(APP.digest)
    assert list(repository.tags()) == []


# --- listing ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def seven(repository):
    for number in range(7):
        push(repository, note(number))
    return [note(number).digest for number in range(7)]


def digests(found):
    return [descriptor.digest for descriptor in found]


def test_manifests_are_listed_tagged_or_not_with_their_descriptors(repository):
    put = [push(repository, APP, "v1"), push(repository, note(1)), push(repository, artifact())]
    assert list(repository.manifests()) == put


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7, 8])
def test_pages_of_manifests_put_together_are_the_whole_list(repository, seven, limit):
    pages, after = [], ""
    while page := digests(repository.manifests(after=after, limit=limit)):
        pages.append(page)
        after = page[-1]
    assert [len(page) for page in pages[:-1]] == [limit] * (len(pages) - 1)
    assert [digest for page in pages for digest in page] == seven


def test_a_limit_of_nothing_lists_nothing(repository, seven):
    assert list(repository.manifests(limit=0)) == []


def test_a_list_of_more_manifests_than_fit_one_page_is_whole(store, repository):
    with store.transaction() as transaction:
        for number in range(1_100):
            push(transaction.repository("library/app"), note(number))
    listed = digests(repository.manifests())
    assert len(listed) == len(set(listed)) == 1_100
    assert digests(repository.manifests(limit=1_050)) == listed[:1_050]


def test_a_list_of_manifests_can_be_left_and_the_store_written_meanwhile(repository, seven):
    listing = repository.manifests()
    assert digests(islice(listing, 2)) == seven[:2]
    push(repository, note("late"))
    assert digests(listing)[:5] == seven[2:]


def test_manifests_of_another_repository_are_not_listed(store, repository, seven):
    push(store.repository("other"), note("other"))
    assert digests(repository.manifests()) == seven


def test_a_page_can_begin_behind_a_manifest_deleted_meanwhile(repository, seven):
    repository.delete_manifest(seven[3])
    assert digests(repository.manifests(after=seven[3])) == seven[4:]


def test_a_page_behind_a_digest_the_store_never_saw_is_refused(repository, seven):
    unseen = Digest.of(b"unseen")
    with pytest.raises(ManifestNotFoundError) as caught:
        repository.manifests(after=unseen)
    assert caught.value.reference == unseen


def test_a_page_behind_a_digest_tells_nothing_of_what_other_repositories_have(store, repository, seven):
    there = store.repository("secret")
    push(there, index([image("secret")], subject=image("absent")), "v1")
    there.put_blob(b"blob")
    there.put_blob(note("as a blob").manifest)
    secret = [index([image("secret")], subject=image("absent")).digest, image("secret").digest, image("absent").digest]
    secret += [Digest.of(each) for each in (b"blob", note("as a blob").manifest, image("secret").config)]
    for digest in (*secret, Digest.of(b"unseen")):
        with pytest.raises(ManifestNotFoundError) as caught:
            repository.manifests(after=digest)
        assert str(caught.value) == f"repository 'library/app' has no manifest '{digest}'"


def test_a_page_behind_what_is_no_digest_is_refused(repository, seven):
    with pytest.raises(InvalidDigestError):
        repository.manifests(after="v1")


ASK = {
    "get": lambda repository: repository.get_manifest("v1"),
    "get by digest": lambda repository: repository.get_manifest(APP.digest),
    "resolve": lambda repository: repository.resolve("v1"),
    "delete": lambda repository: repository.delete_manifest(APP.digest),
    "list": lambda repository: repository.manifests(),
}


@pytest.mark.parametrize("ask", ASK.values(), ids=ASK)
def test_asking_a_repository_that_does_not_exist_says_so_and_makes_none(store, repository, ask):
    push(store.repository("other"), APP, "v1")
    with unchanged(store.root), pytest.raises(RepositoryNotFoundError) as caught:
        ask(repository)
    assert caught.value.name == "library/app"


# --- the platform -----------------------------------------------------------------------------------------------------


@pytest.mark.needs_files
@pytest.mark.parametrize("large", [False, True], ids=["at once", "in parts"])
def test_the_platform_is_that_of_a_config_which_others_collected_and_pushed_again(store, monkeypatch, large):
    if large:
        monkeypatch.setattr(largechanges, "LARGE", 1)
    config, read = Digest.of(APP.config), FilePool.read
    passed = []

    def disturbed(pool, digest, size):
        if digest != config or passed:
            return read(pool, digest, size)
        passed.append(digest)
        with Store.open(store.root) as other:
            other.gc(grace=timedelta(0), force=True)
            try:
                return read(pool, digest, size)  # it is gone
            finally:
                other.repository("app").put_blob(APP.config)

    app = store.repository("app")
    app.put_blob(APP.config)
    with store.transaction() as transaction:
        pending = transaction.repository("app")
        for layer in APP.layers:
            pending.put_blob(layer)
        pending.put_manifest(APP.manifest, tags=["v1"])
        monkeypatch.setattr(FilePool, "read", disturbed)
    assert passed
    assert check(store.root, hashes=True) == []
    with store._core.catalog.read() as connection:
        found = manifests.platform(connection, APP.digest)
    assert found == {"architecture": json.loads(APP.config)["architecture"], "os": json.loads(APP.config)["os"]}


NOTED = {"architecture": "arm64", "os": "linux"}


@pytest.mark.parametrize(
    ("said", "noted"),
    [
        ({}, NOTED),
        ({"variant": "", "os.version": None, "os.features": []}, NOTED),
        ({"variant": "v8", "os.features": ["sse4"]}, {**NOTED, "variant": "v8", "os.features": ["sse4"]}),
        ({"padding": "x" * 3 * 1024 * 1024}, NOTED),
        ({"padding": "x" * 4 * 1024 * 1024}, {}),
        ({"variant": "v" * 500}, {}),
        ({"variant": 8}, {}),
        ({"os": ""}, {}),
        ({"config": {"Cmd": [1]}}, NOTED),
    ],
    ids=[
        "plain",
        "empty parts",
        "all parts",
        "3 MiB",
        "over 4 MiB",
        "too long",
        "malformed",
        "half",
        "malformed besides",
    ],
)
def test_the_platform_is_noted_that_the_config_says(store, repository, said, noted):
    pushed = image("app", **said)
    push(repository, pushed, "v1")
    with store._core.catalog.read() as connection:
        assert (manifests.platform(connection, pushed.digest) or {}) == noted
    assert repository.get_manifest("v1").content == pushed.manifest
