"""Manifests: what is checked before one is stored, and what it says afterwards."""

import json
import pickle
from copy import deepcopy
from dataclasses import FrozenInstanceError

import pytest
from anytext import texts
from hypothesis import given, settings
from hypothesis import strategies as st

from ocistore.errors import DigestMismatchError, InvalidDigestError, ManifestInvalidError
from ocistore.oci import strictjson
from ocistore.oci.descriptor import Descriptor
from ocistore.oci.digest import Digest
from ocistore.oci.manifest import MAXIMUM_DESCRIPTORS, MAXIMUM_MANIFEST_SIZE, Manifest, check_manifest
from ocistore.oci.mediatypes import (
    DOCKER_CONFIG,
    DOCKER_FOREIGN_LAYER,
    DOCKER_LAYER_GZIP,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    DOCKER_SCHEMA1,
    DOCKER_SCHEMA1_SIGNED,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    OCI_NONDISTRIBUTABLE_LAYER_GZIP,
)


def descriptor(content, media_type, **more):
    return {"mediaType": media_type, "digest": str(Digest.of(content)), "size": len(content), **more}


CONFIG = descriptor(b"{}", OCI_CONFIG)
LAYERS = [descriptor(b"one", OCI_LAYER_GZIP), descriptor(b"two", OCI_LAYER_GZIP)]
SUBJECT = descriptor(b"subject", OCI_MANIFEST)
IMAGE = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": CONFIG, "layers": LAYERS}
CHILDREN = [
    descriptor(b"amd64", OCI_MANIFEST, platform={"architecture": "amd64", "os": "linux"}),
    descriptor(b"arm64", OCI_MANIFEST, platform={"architecture": "arm64", "os": "linux", "variant": "v8"}),
]
INDEX = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": CHILDREN}
DOCKER_IMAGE = {
    "schemaVersion": 2,
    "mediaType": DOCKER_MANIFEST,
    "config": descriptor(b"{}", DOCKER_CONFIG),
    "layers": [descriptor(b"one", DOCKER_LAYER_GZIP)],
}
DOCKER_INDEX = {"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": [descriptor(b"amd64", DOCKER_MANIFEST)]}


def encode(document):
    return json.dumps(document).encode()


def without(document, key):
    return {name: value for name, value in document.items() if name != key}


def refused(content, **options):
    with pytest.raises(ManifestInvalidError) as caught:
        check_manifest(content, **options)
    assert len(str(caught.value)) < 800
    return caught.value


@pytest.mark.parametrize(
    "media_type",
    [DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED, OCI_LAYER_GZIP, "application/vnd.oci.artifact.manifest.v1+json", "x/y"],
)
def test_what_an_index_lists_under_a_type_that_is_no_manifests_is_held_as_a_blob(media_type):
    child = descriptor(b"something", media_type)
    manifest = check_manifest(encode(INDEX | {"manifests": [CHILDREN[0], child]}))
    assert [child.to_json() for child in manifest.manifests] == [CHILDREN[0], child]
    assert [(edge.role, edge.required) for edge in manifest.edges()] == [("manifest", True), ("layer", True)]


@pytest.mark.parametrize("document", [IMAGE, INDEX, DOCKER_IMAGE, DOCKER_INDEX])
def test_a_manifest_is_described_by_its_own_bytes(document):
    content = json.dumps(document, indent=3).encode() + b"\n"
    manifest = check_manifest(content)
    assert manifest.content is content
    assert manifest.media_type == document["mediaType"]
    assert manifest.descriptor == Descriptor(document["mediaType"], Digest.of(content), len(content))


def test_an_image_manifest_refers_to_config_layers_and_subject():
    manifest = check_manifest(encode(IMAGE | {"subject": SUBJECT, "annotations": {"a": "b"}}))
    assert manifest.config.to_json() == CONFIG
    assert [layer.to_json() for layer in manifest.layers] == LAYERS
    assert manifest.manifests == ()
    assert manifest.subject.to_json() == SUBJECT
    assert manifest.annotations == {"a": "b"}
    assert [(edge.role, edge.descriptor.to_json(), edge.required) for edge in manifest.edges()] == [
        ("config", CONFIG, True),
        ("layer", LAYERS[0], True),
        ("layer", LAYERS[1], True),
        ("subject", SUBJECT, False),
    ]


def test_an_index_refers_to_its_manifests_and_its_subject():
    manifest = check_manifest(encode(INDEX | {"subject": SUBJECT}))
    assert (manifest.config, manifest.layers) == (None, ())
    assert [str(child.platform) for child in manifest.manifests] == ["linux/amd64", "linux/arm64/v8"]
    assert [(edge.role, edge.descriptor.to_json(), edge.required) for edge in manifest.edges()] == [
        ("manifest", CHILDREN[0], True),
        ("manifest", CHILDREN[1], True),
        ("subject", SUBJECT, False),
    ]


@pytest.mark.parametrize(
    ("media_type", "urls", "required"),
    [
        (DOCKER_FOREIGN_LAYER, ["https://a.example/1"], False),
        (OCI_NONDISTRIBUTABLE_LAYER_GZIP, ["https://a.example/1"], False),
        (DOCKER_FOREIGN_LAYER, [], True),
        (DOCKER_FOREIGN_LAYER, ["", "nowhere", "C:\\layer", "https://", "https:// a", "mailto:a@b"], True),
        (DOCKER_FOREIGN_LAYER, ["nowhere", "ftp://a.example/1"], False),
        (OCI_LAYER_GZIP, ["https://a.example/1"], True),
    ],
)
def test_only_foreign_layers_with_urls_may_be_absent(media_type, urls, required):
    layer = descriptor(b"windows", media_type, urls=urls)
    edges = check_manifest(encode(IMAGE | {"layers": [layer]})).edges()
    assert [edge.required for edge in edges] == [True, required]


@pytest.mark.parametrize("nothing", [[], None])
@pytest.mark.parametrize(("whole", "key"), [(IMAGE, "layers"), (INDEX, "manifests")])
def test_empty_lists_are_allowed(whole, key, nothing):
    document = whole | {key: nothing}
    assert len(check_manifest(encode(document)).edges()) == ("config" in document)


def test_the_artifact_type_is_the_declared_one_or_else_that_of_the_config():
    assert check_manifest(encode(IMAGE)).artifact_type == OCI_CONFIG
    assert check_manifest(encode(IMAGE | {"artifactType": "application/vnd.x"})).artifact_type == "application/vnd.x"
    for nothing in (None, ""):
        assert check_manifest(encode(IMAGE | {"artifactType": nothing})).artifact_type == OCI_CONFIG
        assert check_manifest(encode(INDEX | {"artifactType": nothing})).artifact_type is None
    assert check_manifest(encode(INDEX)).artifact_type is None
    assert check_manifest(encode(INDEX | {"artifactType": "application/vnd.x"})).artifact_type == "application/vnd.x"


@pytest.mark.parametrize("document", [IMAGE, DOCKER_IMAGE])
def test_an_image_has_an_artifact_type_only_in_a_list_of_referrers(document):
    manifest = check_manifest(encode(document))
    assert manifest.descriptor.artifact_type is None
    assert manifest.as_referrer().artifact_type == document["config"]["mediaType"]


@pytest.mark.parametrize(
    "document",
    [
        IMAGE | {"artifactType": "application/vnd.x"},
        IMAGE | {"config": descriptor(b"{}", "application/vnd.x")},
        INDEX | {"artifactType": "application/vnd.x"},
    ],
)
def test_an_artifact_has_its_type_in_its_descriptor(document):
    assert check_manifest(encode(document)).descriptor.artifact_type == "application/vnd.x"


def test_only_a_list_of_referrers_shows_the_annotations():
    manifest = check_manifest(encode(IMAGE | {"artifactType": "application/vnd.x", "annotations": {"a": "b"}}))
    assert manifest.descriptor.annotations == {}
    own = manifest.descriptor
    assert manifest.as_referrer() == Descriptor(
        OCI_MANIFEST, own.digest, own.size, {"a": "b"}, artifact_type="application/vnd.x"
    )


# --- when it is parsed ------------------------------------------------------------------------------------------------


def test_a_stored_manifest_is_parsed_when_first_asked_and_a_checked_one_never_again(monkeypatch):
    content = encode(IMAGE)
    parsed = []
    original = strictjson.loads
    monkeypatch.setattr(strictjson, "loads", lambda *a, **k: parsed.append(1) or original(*a, **k))
    checked = check_manifest(content)
    assert (len(checked.layers), len(checked.edges()), len(parsed)) == (2, 3, 1)
    stored = Manifest(checked.descriptor, content)
    assert (stored.media_type, stored.descriptor, len(parsed)) == (OCI_MANIFEST, checked.descriptor, 1)
    assert (stored.layers, stored.edges(), len(parsed)) == (checked.layers, checked.edges(), 2)
    assert stored == checked


def test_a_stored_manifest_larger_than_the_default_limit_can_be_read():
    content = encode(IMAGE | {"annotations": {"a": "x" * MAXIMUM_MANIFEST_SIZE}})
    checked = check_manifest(content, maximum=2 * MAXIMUM_MANIFEST_SIZE)
    assert Manifest(checked.descriptor, content).config == checked.config


def test_a_damaged_stored_manifest_says_so_when_it_is_read():
    damaged = Manifest(Descriptor(OCI_MANIFEST, Digest.of(b"x"), 1), b"x")
    for read in (lambda: damaged.config, damaged.edges, lambda: damaged.artifact_type, damaged.as_referrer):
        with pytest.raises(ManifestInvalidError):
            read()


def test_a_stored_manifest_that_contradicts_its_row_says_so_when_it_is_read():
    content = encode(IMAGE)
    wrong = Manifest(Descriptor(OCI_INDEX, Digest.of(content), len(content)), content)
    with pytest.raises(ManifestInvalidError, match="but came as"):
        wrong.edges()


def test_a_manifest_pickles_and_cannot_be_changed_and_hides_its_bytes_when_printed():
    manifest = check_manifest(encode(INDEX))
    assert pickle.loads(pickle.dumps(manifest)) == manifest
    assert len({manifest, Manifest(manifest.descriptor, manifest.content)}) == 1
    with pytest.raises(FrozenInstanceError):
        manifest.content = b""
    assert "schemaVersion" not in repr(manifest)


# --- digest and size --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["sha256", "sha512", "blake3"])
def test_the_bytes_must_be_those_of_the_digest(algorithm):
    content = encode(IMAGE)
    digest = Digest.of(content, algorithm)
    assert check_manifest(content, digest=digest).descriptor.digest == digest
    with pytest.raises(DigestMismatchError) as caught:
        check_manifest(content + b" ", digest=digest)
    assert caught.value.expected == digest
    assert caught.value.actual == Digest.of(content + b" ", algorithm)


def test_a_digest_that_is_none_is_refused():
    with pytest.raises(InvalidDigestError):
        check_manifest(encode(IMAGE), digest="sha256:../x")


def test_a_manifest_may_have_four_mebibytes_and_not_one_byte_more():
    content = encode(IMAGE)
    content += b" " * (MAXIMUM_MANIFEST_SIZE - len(content))
    assert check_manifest(content).descriptor.size == 4 * 1024 * 1024
    assert "at most" in refused(content + b" ").reason
    assert check_manifest(content + b" ", maximum=MAXIMUM_MANIFEST_SIZE + 1)
    assert "at most 100" in refused(encode(IMAGE), maximum=100).reason


@pytest.mark.parametrize("content", [None, "{}", bytearray(b"{}"), memoryview(b"{}"), {}])
def test_content_that_is_not_bytes_is_refused(content):
    assert "not bytes" in refused(content).reason


# --- the document -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"null",
        b"[]",
        b'"x"',
        b"2",
        b"\x00" * 100,
        b"\xef\xbb\xbf" + encode(IMAGE),
        json.dumps(IMAGE).encode("utf-16"),
        json.dumps(IMAGE).encode("utf-16-le"),
        json.dumps(IMAGE).encode("utf-32"),
        encode(IMAGE)[:-1],
        encode(IMAGE) + b"}",
        encode(IMAGE)[:-1] + b', "layers": []}',
        encode(IMAGE)[:-1] + b', "schemaVersion": 2}',
        encode(IMAGE).replace(b'"size": 3', b'"size": 3, "size": 4'),
        encode(IMAGE).replace(b'"size": 3', b'"size": NaN'),
        encode(IMAGE).replace(b'"size": 3', b'"size": 1e999'),
        encode(IMAGE).replace(b'"size": 3', b'"size": ' + b"3" * 5000),
        encode(IMAGE)[:-1] + b', "x": Infinity}',
        encode(IMAGE)[:-1] + b', "x": ' + b"[" * 64 + b"]" * 64 + b"}",
        encode(IMAGE)[:-1] + b', "x": ' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}",
        encode(IMAGE)[:-1] + b', "x": "\\ud800"}',
        encode(IMAGE)[:-1] + b', "x": "\xff"}',
    ],
    ids=lambda content: repr(content[-40:]),
)
def test_what_is_not_one_clear_json_object_is_refused(content):
    refused(content)


@pytest.mark.parametrize(
    ("document", "path"),
    [
        *[(IMAGE | {"schemaVersion": bad}, "schemaVersion") for bad in (1, 3, True, 2.0, "2", None, [2], -2)],
        (without(IMAGE, "schemaVersion"), "schemaVersion"),
        ({}, "schemaVersion"),
        ({"schemaVersion": 2}, ""),
        *[(IMAGE | {"mediaType": bad}, "mediaType") for bad in ("x", "a/b\n", 5, [], OCI_MANIFEST.upper())],
        (IMAGE | {"mediaType": "application/vnd.oci.artifact.manifest.v1+json"}, "mediaType"),
        (IMAGE | {"mediaType": OCI_CONFIG}, "mediaType"),
        (IMAGE | {"mediaType": DOCKER_SCHEMA1}, "mediaType"),
        (IMAGE | {"mediaType": DOCKER_SCHEMA1_SIGNED}, "mediaType"),
        (IMAGE | {"mediaType": OCI_INDEX}, "config"),
        (INDEX | {"mediaType": OCI_MANIFEST}, "manifests"),
        (IMAGE | {"artifactType": "x"}, "artifactType"),
        *[(IMAGE | {"artifactType": bad}, "artifactType") for bad in (5, False, [])],
        (without(IMAGE, "config"), ""),
        (IMAGE | {"config": None}, "config"),
        (IMAGE | {"config": []}, "config"),
        (IMAGE | {"config": CONFIG | {"size": True}}, "config.size"),
        (without(IMAGE, "layers"), "layers"),
        *[(IMAGE | {"layers": bad}, "layers") for bad in ({}, "x", 5, False)],
        (IMAGE | {"layers": [LAYERS[0], None]}, "layers[1]"),
        (IMAGE | {"layers": [LAYERS[0], LAYERS[1] | {"size": -1}]}, "layers[1].size"),
        (IMAGE | {"layers": [LAYERS[0] | {"size": 3.0}]}, "layers[0].size"),
        (IMAGE | {"layers": [LAYERS[0] | {"digest": "md5:00"}]}, "layers[0].digest"),
        (IMAGE | {"layers": [LAYERS[0] | {"digest": LAYERS[0]["digest"] + "\n"}]}, "layers[0].digest"),
        (IMAGE | {"layers": [LAYERS[0] | {"data": "dHdv"}]}, "layers[0].data"),
        (without(INDEX, "manifests"), "manifests"),
        *[(INDEX | {"manifests": bad}, "manifests") for bad in ({}, "x", 5, False)],
        (INDEX | {"manifests": [CHILDREN[0] | {"platform": {"os": "linux"}}]}, "manifests[0].platform"),
        *[(IMAGE | {"subject": bad}, "subject") for bad in ([], "x", {}, 5, False)],
        (INDEX | {"subject": SUBJECT | {"size": "7"}}, "subject.size"),
        *[(IMAGE | {"annotations": bad}, "annotations") for bad in ([], "x", {"a": 1}, {"a": None}, False)],
        (IMAGE | {"Layers": []}, ""),
        (INDEX | {"LAYERS": LAYERS}, ""),
        (INDEX | {"manifest\u017f": []}, ""),  # a long s, which Go's reader folds to s
    ],
)
def test_what_is_wrong_in_the_document_is_refused_and_its_place_named(document, path):
    assert refused(encode(document)).path == path


@pytest.mark.parametrize("media_type", [DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED])
def test_the_first_version_of_dockers_manifests_is_refused_by_name(media_type):
    assert "no longer in use" in refused(encode(IMAGE | {"mediaType": media_type})).reason
    assert "no longer in use" in refused(encode(without(IMAGE, "mediaType")), media_type=media_type).reason
    assert refused(encode({"schemaVersion": 1, "name": "a", "tag": "b", "fsLayers": []})).path == "schemaVersion"


@pytest.mark.parametrize("value", [[], LAYERS, None])
@pytest.mark.parametrize("key", ["layers", "config"])
@pytest.mark.parametrize("media_type", [OCI_INDEX, None, OCI_MANIFEST])
def test_a_document_that_is_image_and_index_at_once_is_refused(media_type, key, value):
    document = without(INDEX, "mediaType") | {key: value}
    refused(encode(document if media_type is None else document | {"mediaType": media_type}))
    refused(encode(document), media_type=OCI_INDEX)
    refused(encode(document | {"config": CONFIG, "layers": LAYERS}), media_type=OCI_MANIFEST)


@pytest.mark.parametrize(
    ("document", "given", "found"),
    [
        (IMAGE, None, OCI_MANIFEST),
        (IMAGE, OCI_MANIFEST, OCI_MANIFEST),
        (without(IMAGE, "mediaType"), None, OCI_MANIFEST),
        (without(IMAGE, "mediaType"), OCI_MANIFEST, OCI_MANIFEST),
        *[(IMAGE | {"mediaType": nothing}, None, OCI_MANIFEST) for nothing in (None, "")],
        *[(IMAGE | {"mediaType": nothing}, OCI_MANIFEST, OCI_MANIFEST) for nothing in (None, "")],
        (INDEX | {"mediaType": ""}, None, OCI_INDEX),
        (without(INDEX, "mediaType"), None, OCI_INDEX),
        (without(INDEX, "mediaType"), OCI_INDEX, OCI_INDEX),
        (DOCKER_IMAGE, DOCKER_MANIFEST, DOCKER_MANIFEST),
        (DOCKER_INDEX, DOCKER_LIST, DOCKER_LIST),
    ],
)
def test_the_media_type_is_said_given_or_seen_in_the_shape(document, given, found):
    manifest = check_manifest(encode(document), media_type=given)
    assert manifest.media_type == found
    assert Manifest(manifest.descriptor, manifest.content).edges() == manifest.edges()


@pytest.mark.parametrize(
    ("document", "given"),
    [
        (IMAGE, OCI_INDEX),
        (IMAGE, DOCKER_MANIFEST),
        (DOCKER_IMAGE, OCI_MANIFEST),
        (INDEX, DOCKER_LIST),
        (IMAGE, "application/json"),
        (IMAGE, ""),
        (IMAGE, OCI_MANIFEST + "; charset=utf-8"),
        (IMAGE, OCI_MANIFEST + "\r\nX-Evil: 1"),
        (IMAGE, 5),
        (IMAGE, [OCI_MANIFEST]),
        (without(IMAGE, "mediaType"), [OCI_MANIFEST]),
        (without(IMAGE, "mediaType"), OCI_INDEX),
        (without(IMAGE, "mediaType"), "application/json"),
        (without(IMAGE, "mediaType"), DOCKER_SCHEMA1_SIGNED),
        (without(INDEX, "mediaType"), OCI_MANIFEST),
        (without(DOCKER_IMAGE, "mediaType"), DOCKER_MANIFEST),
        (without(DOCKER_INDEX, "mediaType"), DOCKER_LIST),
    ],
)
def test_a_media_type_that_contradicts_the_document_is_refused(document, given):
    refused(encode(document), media_type=given)


def test_ten_thousand_descriptors_are_enough():
    layer = LAYERS[0]
    full = IMAGE | {"layers": [layer] * (MAXIMUM_DESCRIPTORS - 1)}
    assert len(check_manifest(encode(full)).edges()) == 10_000
    assert refused(encode(full | {"layers": [*full["layers"], layer]})).path == "layers"
    assert "10001" in refused(encode(full | {"subject": SUBJECT})).reason
    children = [CHILDREN[0]] * MAXIMUM_DESCRIPTORS
    assert len(check_manifest(encode(INDEX | {"manifests": children})).manifests) == 10_000
    assert refused(encode(INDEX | {"manifests": [*children, CHILDREN[0]]})).path == "manifests"


# --- anything at all --------------------------------------------------------------------------------------------------

SEEDS = [
    IMAGE | {"subject": SUBJECT, "annotations": {"a": "b"}, "artifactType": "application/vnd.x"},
    INDEX | {"subject": SUBJECT, "annotations": {"a": "b"}},
    DOCKER_IMAGE | {"layers": [descriptor(b"w", DOCKER_FOREIGN_LAYER, urls=["https://a.example"], data="dw==")]},
    DOCKER_INDEX,
]
SPICES = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        -1,
        2,
        2.5,
        2**63,
        1e300,
        "",
        "x",
        "\n",
        "\u017f",
        "../..",
        OCI_INDEX,
        OCI_MANIFEST,
        [],
        {},
        [[]],
        [None],
        CONFIG,
        LAYERS,
        {"a": 1},
        {"a": "b"},
        "sha256:" + "A" * 64,
    ]
).map(deepcopy) | texts(max_size=5)


def places(document, path=()):
    """Every path to a value inside ``document``."""
    if path:
        yield path
    for key in document if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else ():
        yield from places(document[key], (*path, key))


@st.composite
def mutated(draw):
    document = deepcopy(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 3))):
        found = list(places(document))
        if not found:
            break
        *way, last = draw(st.sampled_from(found))
        parent = document
        for key in way:
            parent = parent[key]
        change = draw(st.sampled_from(["set", "drop", "add"]))
        if change == "set":
            parent[last] = draw(SPICES)
        elif change == "drop":
            del parent[last]
        elif isinstance(parent, dict):
            keys = [*IMAGE, *INDEX, *CONFIG, "urls", "data", "subject", "x", "SIZE", "annotations", "platform"]
            parent[draw(st.sampled_from(keys))] = draw(SPICES)
        else:
            parent.insert(last, draw(SPICES))
    return document


ANY_DOCUMENT = given(mutated(), st.sampled_from([None, None, OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, "x"]))
ANY_BYTES = given(st.sampled_from(SEEDS).map(encode), st.integers(0, 2000), st.integers(0, 4), st.binary(max_size=4))


@settings(max_examples=200, deadline=None)
@ANY_DOCUMENT
def test_any_document_is_a_whole_manifest_or_a_manifest_error(document, media_type):
    _whole_or_an_error(document, media_type)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@ANY_DOCUMENT
def test_any_of_many_documents_is_a_whole_manifest_or_a_manifest_error(document, media_type):
    _whole_or_an_error(document, media_type)


def _whole_or_an_error(document, media_type):
    content = encode(document)
    try:
        manifest = check_manifest(content, media_type=media_type)
    except ManifestInvalidError:
        return
    assert document["schemaVersion"] == 2
    assert ("manifests" in document) != ("layers" in document)
    assert media_type in (None, manifest.media_type)
    assert document.get("mediaType") in (None, "", manifest.media_type)
    assert (manifest.config is None) == ("manifests" in document)
    for edge in manifest.edges():
        assert type(edge.descriptor.digest) is Digest
        assert type(edge.descriptor.size) is int
        assert edge.descriptor.size >= 0
        assert Descriptor.from_json(edge.descriptor.to_json(), path="x") == edge.descriptor
    again = Manifest(manifest.descriptor, content)
    assert (again.edges(), again.annotations, again.artifact_type, again.as_referrer()) == (
        manifest.edges(),
        manifest.annotations,
        manifest.artifact_type,
        manifest.as_referrer(),
    )


@settings(max_examples=200, deadline=None)
@ANY_BYTES
def test_any_bytes_are_a_manifest_or_a_manifest_error(content, position, removed, added):
    _changed_or_an_error(content, position, removed, added)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@ANY_BYTES
def test_any_of_many_bytes_are_a_manifest_or_a_manifest_error(content, position, removed, added):
    _changed_or_an_error(content, position, removed, added)


def _changed_or_an_error(content, position, removed, added):
    content = content[:position] + added + content[position + removed :]
    try:
        manifest = check_manifest(content)
    except ManifestInvalidError:
        return
    assert manifest.descriptor.digest == Digest.of(content)
    assert manifest.content == content
