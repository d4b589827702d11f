"""Manifests and indexes made of values: their bytes, what is refused, and descriptors that say something else."""

import json
import pickle
from copy import copy, deepcopy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocistore import Descriptor, Digest, Index, InvalidNameError, Manifest, ManifestInvalidError, Platform, mediatypes
from ocistore.oci.manifest import check_manifest

CONFIG = Descriptor.of(b"{}", mediatypes.OCI_CONFIG)
LAYERS = [Descriptor.of(b"one", mediatypes.OCI_LAYER_GZIP), Descriptor.of(b"two", mediatypes.OCI_LAYER_ZSTD)]
IMAGE = Manifest.build(config=CONFIG, layers=LAYERS)
NOTE = Manifest.build(artifact_type="application/x", annotations={"note": "é"})


def test_an_image_has_the_keys_in_the_order_of_the_specification_and_no_spaces():
    built = Manifest.build(
        config=CONFIG,
        layers=LAYERS[:1],
        artifact_type="application/x",
        subject=IMAGE,
        annotations={"b": "ü", "a": "<&>"},
    )
    config, layer, subject = (f'{{"mediaType":"{each.media_type}","digest":"{each.digest}","size":{each.size}}}'
                              for each in (CONFIG, LAYERS[0], IMAGE.descriptor))  # fmt: skip
    assert built.content.decode() == (
        '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/x",'
        f'"config":{config},"layers":[{layer}],"subject":{subject},"annotations":{{"a":"<&>","b":"ü"}}}}'
    )
    assert built.descriptor == Descriptor(
        mediatypes.OCI_MANIFEST, Digest.of(built.content), len(built.content), artifact_type="application/x"
    )


def test_an_artifact_has_the_empty_config_and_has_it_in_itself():
    assert json.loads(NOTE.content) == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/x",
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
            "size": 2,
            "data": "e30=",
        },
        "layers": [],
        "annotations": {"note": "é"},
    }
    assert NOTE.embedded_blobs() == {Digest.of(b"{}"): b"{}"}


def test_an_index_keeps_what_its_children_run_on_and_takes_manifests_indexes_and_descriptors():
    inner = Index.build(manifests=[IMAGE])
    children = [IMAGE.descriptor.replace(platform="linux/arm64/v8"), NOTE, inner, LAYERS[0]]
    built = Index.build(manifests=children, artifact_type="application/y", subject=inner.descriptor)
    assert list(built.manifests) == [children[0], NOTE.descriptor, inner.descriptor, LAYERS[0]]
    assert built.manifests[0].platform == Platform("arm64", "linux", variant="v8")
    assert (built.artifact_type, built.subject) == ("application/y", inner.descriptor)
    assert list(json.loads(built.content)) == ["schemaVersion", "mediaType", "artifactType", "manifests", "subject"]


def test_what_is_read_as_an_index_is_an_index():
    built = Index.build(manifests=[IMAGE])
    read = check_manifest(built.content)
    assert type(read) is type(built) is Index
    assert type(Manifest(built.descriptor, built.content)) is Index
    assert type(IMAGE) is Manifest
    for again in (pickle.loads(pickle.dumps(built)), copy(built), deepcopy(built)):
        assert type(again) is Index
        assert again == built


def test_the_order_of_annotations_makes_no_difference():
    first, second = {"a": "1", "b": "2"}, {"b": "2", "a": "1"}
    assert (
        Manifest.build(config=CONFIG.replace(annotations=first), annotations=first).content
        == Manifest.build(config=CONFIG.replace(annotations=second), annotations=second).content
    )


def test_iterators_are_taken_too():
    assert Manifest.build(config=CONFIG, layers=iter(LAYERS)) == IMAGE
    assert Index.build(manifests=(each for each in [IMAGE])) == Index.build(manifests=[IMAGE])


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({}, "artifactType"),
        ({"config": Descriptor.of(b"{}", mediatypes.OCI_EMPTY)}, "artifactType"),
        ({"artifact_type": ""}, "artifactType"),
        ({"artifact_type": "no type"}, "artifactType"),
        ({"config": Descriptor("no type", CONFIG.digest, 2)}, "config.mediaType"),
        ({"config": Descriptor("a/b", CONFIG.digest, -1)}, "config.size"),
        ({"config": CONFIG, "layers": [*LAYERS, Descriptor("a/b", "sha256:short", 2)]}, "layers[2].digest"),
        ({"config": CONFIG, "layers": [Descriptor("a/b", CONFIG.digest, 2, {"a": 1})]}, "layers[0].annotations"),
        ({"config": CONFIG, "subject": Descriptor("a/b", CONFIG.digest, 2, data=b"{]")}, "subject.data"),
        ({"config": CONFIG, "annotations": {"a": 1}}, "annotations"),
        ({"config": CONFIG, "annotations": {1: "a"}}, "annotations"),
        ({"config": CONFIG, "annotations": {"a": "\ud800"}}, ""),
        ({"config": CONFIG, "layers": LAYERS * 5000}, "layers"),
    ],
)
def test_what_would_not_be_a_manifest_is_refused_where_it_is_wrong(options, path):
    with pytest.raises(ManifestInvalidError) as caught:
        Manifest.build(**options)
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("build", "options", "said"),
    [
        (Manifest.build, {"config": CONFIG.digest}, "config must be a Descriptor, a Manifest or an Index, not Digest"),
        (Manifest.build, {"config": CONFIG, "layers": ["a"]}, r"layers\[0\] must be a Descriptor, .*, not str"),
        (Manifest.build, {"config": CONFIG, "layers": LAYERS[0]}, "layers must be a list of .*, not Descriptor"),
        (Manifest.build, {"config": CONFIG, "layers": "text"}, "layers must be a list of .*, not one text"),
        (Manifest.build, {"config": CONFIG, "layers": 7}, "layers must be a list of .*, not int"),
        (Manifest.build, {"config": CONFIG, "subject": b"{}"}, "subject must be a Descriptor, .*, not bytes"),
        (Manifest.build, {"config": CONFIG, "annotations": ["a"]}, "annotations must be a mapping .*, not list"),
        (Index.build, {"manifests": IMAGE}, "manifests must be a list of .*, not Manifest"),
        (Index.build, {"manifests": [None]}, r"manifests\[0\] must be a Descriptor, .*, not NoneType"),
    ],
)
def test_arguments_of_other_types_are_named(build, options, said):
    with pytest.raises(TypeError, match=said):
        build(**options)


# --- to and from JSON -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("built", [IMAGE, NOTE, Index.build(manifests=[IMAGE], annotations={"z": "1", "a": "2"})])
def test_a_manifest_that_was_built_is_the_same_again_from_its_json(built):
    document = built.to_json()
    assert json.loads(json.dumps(document)) == document
    again = type(built).from_json(document)
    assert again.content == built.content
    document["annotations"] = {"changed": "yes"}
    assert "changed" not in built.annotations


def test_what_is_in_a_manifest_beside_what_is_known_is_in_its_json_too():
    content = json.dumps({**json.loads(IMAGE.content), "vendor": {"a": [1.5, None]}}, indent=2).encode()
    document = check_manifest(content).to_json()
    assert document == json.loads(content)
    assert Manifest.from_json(document).to_json() == document


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (Index, IMAGE.to_json(), "is no index"),
        (Manifest, [], "is not an object"),
        (Manifest, {}, "is not 2"),
        (Manifest, {"schemaVersion": 2, "config": b""}, "cannot be written as JSON"),
        (Manifest, {"schemaVersion": 2, "n": float("nan")}, "cannot be written as JSON"),
    ],
)
def test_what_is_no_manifest_is_not_made_one(kind, value, said):
    with pytest.raises(ManifestInvalidError, match=said):
        kind.from_json(value)


# --- descriptors ------------------------------------------------------------------------------------------------------


def test_a_descriptor_of_bytes_has_their_digest_and_size():
    assert Descriptor.of(b"hello") == Descriptor("application/octet-stream", Digest.of(b"hello"), 5)
    assert Descriptor.of(bytearray(b"hello"), "a/b", algorithm="sha512", embed=True) == Descriptor(
        "a/b", Digest.of(b"hello", "sha512"), 5, data=b"hello"
    )
    with pytest.raises(TypeError, match="content must be bytes, a bytearray or a memoryview, not str"):
        Descriptor.of("hello")
    with pytest.raises(ManifestInvalidError):
        Descriptor.of(b"hello", "no type")


def test_a_descriptor_says_something_else_of_the_same_content():
    first = Descriptor.of(b"hello", "a/b", embed=True)
    other = first.replace(
        media_type="c/d", annotations={"a": "b"}, platform=Platform("arm", "linux"), artifact_type="e/f", urls=["g:h"]
    )
    assert other == Descriptor(
        "c/d", first.digest, 5, {"a": "b"}, Platform("arm", "linux"), "e/f", ("g:h",), data=b"hello"
    )
    assert other.replace() == other
    assert other.replace(
        media_type="a/b", annotations=None, platform=None, artifact_type=None, urls=(), data=None
    ) == Descriptor("a/b", first.digest, 5)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"media_type": "no type"}, ManifestInvalidError, "mediaType: "),
        ({"media_type": None}, TypeError, "media_type must be text, not NoneType"),
        ({"annotations": {"a": 1}}, ManifestInvalidError, "annotations: "),
        ({"data": b"other"}, ManifestInvalidError, "data: "),
        ({"platform": "linux"}, InvalidNameError, "platform"),
        ({"urls": "g:h"}, TypeError, "urls must be a list"),
        ({"size": 7}, TypeError, "size"),
    ],
)
def test_a_descriptor_is_not_made_to_say_nonsense(change, error, said):
    with pytest.raises(error, match=said):
        Descriptor.of(b"hello").replace(**change)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
DESCRIPTORS = st.builds(
    lambda content, annotations, platform, embed: Descriptor.of(content, "a/b", embed=embed).replace(
        annotations=annotations, platform=platform
    ),
    st.binary(max_size=5),
    st.dictionaries(TEXTS, TEXTS, max_size=3),
    st.none() | st.builds(Platform, TEXTS, TEXTS, TEXTS, st.lists(TEXTS, max_size=2).map(tuple), TEXTS),
    st.booleans(),
)


@given(config=DESCRIPTORS, layers=st.lists(DESCRIPTORS, max_size=3), annotations=st.dictionaries(TEXTS, TEXTS))
@settings(max_examples=50)
def test_a_manifest_says_exactly_what_it_was_built_of(config, layers, annotations):
    built = Manifest.build(config=config, layers=layers, annotations=annotations)
    assert (built.config, list(built.layers), built.annotations) == (config, layers, annotations)
    assert check_manifest(built.content) == built
    assert Manifest.from_json(built.to_json()).content == built.content
