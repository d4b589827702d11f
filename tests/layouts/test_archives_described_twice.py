"""Archives that index.json and manifest.json both describe: what either has comes in, and what cannot is named."""

import hashlib
import io
import json
import tarfile
import time

import pytest
from archived import COMPRESSIONS, config_of, docker_members, member, tarred
from handmade import IMAGE_NAME, REF_NAME
from images import document
from state import unchanged

from ocistore import ArchiveInvalidError, LayoutInvalidError
from ocistore.oci import mediatypes

LAYERS = [b"a layer", b"another" * 20_000]
VERSION = b'{"imageLayoutVersion":"1.0.0"}'


def sha256(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def described(content, media_type, **more):
    return {"mediaType": media_type, "digest": sha256(content), "size": len(content), **more}


def named(name):
    """The annotations that Docker writes, of a name as people write it."""
    return {"annotations": {IMAGE_NAME: f"docker.io/library/{name}", REF_NAME: name.partition(":")[2]}} if name else {}


class Saved:
    """An archive as ``docker save`` writes it from version 25 on, with what one may say in two ways."""

    def __init__(self):
        self.blobs, self.entries, self.listed, self.repositories = {}, [], [], {}

    def blob(self, content):
        self.blobs[f"blobs/sha256/{hashlib.sha256(content).hexdigest()}"] = content
        return f"blobs/sha256/{hashlib.sha256(content).hexdigest()}"

    def manifest(self, layers, *, kind=mediatypes.OCI_LAYER, compress=bytes, listed=True, **more):
        """The manifest of an image, whose blobs are put into the archive; its own bytes, too."""
        config = config_of(layers, **more)
        stored = [compress(layer) for layer in layers]
        for content in (config, *stored):
            self.blob(content)
        content = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": mediatypes.OCI_MANIFEST,
                "config": described(config, mediatypes.OCI_CONFIG),
                "layers": [described(layer, kind) for layer in stored] if listed else None,
            },
            indent=2,
        ).encode()
        self.blob(content)
        return content

    def in_index(self, manifest, name=None, **more):
        self.entries.append(described(manifest, mediatypes.OCI_MANIFEST, **named(name), **more))
        return self

    def in_manifest_json(self, layers, *names, compress=bytes, **more):
        config = self.blob(config_of(layers, **more))
        self.listed.append(
            {
                "Config": config,
                "RepoTags": list(names) or None,
                "Layers": [self.blob(compress(layer)) for layer in layers],
            }
        )
        return self

    def bytes(self, *, index=None, manifest_json=None, version=VERSION, more=()):
        if index is None:
            index = document({"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": self.entries})
        files = dict(self.blobs)
        if index:
            files["index.json"] = index
        files["manifest.json"] = document(self.listed) if manifest_json is None else manifest_json
        if version:
            files["oci-layout"] = version
        if self.repositories:
            files["repositories"] = document(self.repositories)
        return tarred([*(member(name, content) for name, content in files.items()), *more])


@pytest.fixture(params=["a file", "a stream"])
def imported(request, store, tmp_path):
    def imported(content, *arguments, **options):
        if request.param == "a stream":
            return store.import_(io.BytesIO(content), *arguments, **options)
        (tmp_path / "archive").write_bytes(content)
        return store.import_(tmp_path / "archive", *arguments, **options)

    return imported


def layers_of(store, repository, reference):
    repository = store.repository(repository)
    found = []
    for layer in repository.get_manifest(reference).layers:
        with repository.open_blob(layer.digest) as blob:
            found.append(blob.read())
    return found


def test_what_both_describe_comes_in_once_as_the_index_has_it(store, imported):
    saved = Saved()
    manifest = saved.manifest(LAYERS)
    saved.in_index(manifest, "app:v1").in_manifest_json(LAYERS, "app:v1")
    saved.repositories = {"app": {"v1": "0" * 64}}
    report = imported(saved.bytes())
    assert (report.tags, report.untagged, report.skipped) == (("docker.io/library/app:v1",), (), ())
    assert store.repository("docker.io/library/app").get_manifest("v1").content == manifest


NOTHING = [
    b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":null}',
    b'{"schemaVersion":2,"manifests":[]}',
]


@pytest.mark.parametrize("index", NOTHING)
@pytest.mark.parametrize("version", [VERSION, None])
def test_an_index_of_nothing_hides_no_image(store, imported, index, version):
    # Docker 25.0.x of an image that is saved by its digest: moby issue 47210.
    saved = Saved().in_manifest_json(LAYERS).in_manifest_json(LAYERS[:1], "app:v1")
    report = imported(saved.bytes(index=index, version=version))
    assert report.tags == ("app:v1",)
    assert (len(report.untagged), report.manifests, report.blobs) == (1, 2, 4)
    assert layers_of(store, "app", "v1") == LAYERS[:1]
    assert layers_of(store, "app", report.untagged[0].partition("@")[2]) == LAYERS


@pytest.mark.parametrize("listed", [b"null", b"[]"])
def test_a_manifest_json_of_nothing_hides_no_image(store, imported, listed):
    saved = Saved()
    saved.in_index(saved.manifest(LAYERS), "app:v1")
    assert imported(saved.bytes(manifest_json=listed)).tags == ("docker.io/library/app:v1",)


def test_two_images_in_manifest_json_and_one_in_the_index_both_come(store, imported):
    saved = Saved()
    saved.in_index(saved.manifest(LAYERS), "app:v1")
    saved.in_manifest_json(LAYERS, "app:v1").in_manifest_json(LAYERS[:1], "other:v2")
    report = imported(saved.bytes())
    assert report.tags == ("docker.io/library/app:v1", "other:v2")
    assert layers_of(store, "other", "v2") == LAYERS[:1]


def test_one_image_in_manifest_json_and_two_in_the_index_both_come(imported):
    saved = Saved()
    saved.in_index(saved.manifest(LAYERS), "app:v1").in_index(saved.manifest(LAYERS[:1]), "other:v2")
    saved.in_manifest_json(LAYERS, "app:v1")
    assert imported(saved.bytes()).tags == ("docker.io/library/app:v1", "docker.io/library/other:v2")


def test_images_saved_by_their_digests_all_come(imported):
    # moby issue 51389: of two, index.json has one.
    saved = Saved()
    saved.in_index(saved.manifest(LAYERS))
    saved.in_manifest_json(LAYERS).in_manifest_json(LAYERS[:1])
    report = imported(saved.bytes(), "mine")
    assert (report.tags, len(report.untagged), report.manifests) == ((), 2, 2)


def test_a_name_that_only_manifest_json_has_is_one_of_the_same_manifest(store, imported):
    saved = Saved()
    manifest = saved.manifest(LAYERS)
    saved.in_index(manifest, "app:v1").in_manifest_json(LAYERS, "app:v1", "app:stable", "quay.io/org/app:v1", "app")
    report = imported(saved.bytes())
    assert report.tags == ("app:latest", "app:stable", "docker.io/library/app:v1", "quay.io/org/app:v1")
    assert report.manifests == 1
    assert store.repository("app").get_manifest("stable").content == manifest


@pytest.mark.parametrize("annotations", [{}, {REF_NAME: "v1"}])
def test_an_entry_without_a_repository_gets_the_name_that_manifest_json_has(store, imported, annotations):
    saved = Saved()
    manifest = saved.manifest(LAYERS)
    saved.entries.append(described(manifest, mediatypes.OCI_MANIFEST, annotations=annotations))
    saved.in_manifest_json(LAYERS, "app:v1", "app:v2")
    report = imported(saved.bytes())
    assert (report.tags, report.untagged, report.manifests) == (("app:v1", "app:v2"), (), 1)
    assert store.repository("app").get_manifest("v1").content == manifest


@pytest.mark.parametrize("name", ["app:v1", None])
def test_of_several_platforms_the_index_counts_and_manifest_json_speaks_of_one(store, imported, name):
    # As containerd exports: manifest.json has the image of the platform that it runs on.
    saved = Saved()
    manifests = [saved.manifest(LAYERS, architecture=each) for each in ("amd64", "arm64")]
    index = document(
        {
            "schemaVersion": 2,
            "mediaType": mediatypes.OCI_INDEX,
            "manifests": [described(manifest, mediatypes.OCI_MANIFEST) for manifest in manifests],
        }
    )
    saved.blob(index)
    saved.entries.append(described(index, mediatypes.OCI_INDEX, **named(name)))
    saved.in_manifest_json(LAYERS, "app:v1", architecture="arm64")
    report = imported(saved.bytes(), "mine")
    assert (report.tags, report.untagged, report.manifests) == (("mine:v1",), (), 3)
    assert store.repository("mine").get_manifest("v1").content == index


def test_the_same_image_compressed_in_the_index_is_taken_from_there(store, imported):
    saved = Saved()
    compress = COMPRESSIONS["gzip"]
    manifest = saved.manifest(LAYERS, kind=mediatypes.OCI_LAYER_GZIP, compress=compress)
    saved.in_index(manifest, "app:v1").in_manifest_json(LAYERS, "app:v1")
    report = imported(saved.bytes())
    assert (report.manifests, report.blobs) == (1, 3)
    assert store.repository("docker.io/library/app").get_manifest("v1").content == manifest


@pytest.mark.parametrize("name", ["app:v1", None])
def test_a_manifest_without_the_layers_of_its_image_is_replaced_and_named(store, imported, name):
    # Docker 25.0.0: moby issue 47065.
    saved = Saved()
    empty = saved.manifest(LAYERS, listed=False)
    saved.in_index(empty, name).in_manifest_json(LAYERS, *([name] if name else []))
    report = imported(saved.bytes(), "mine")
    reference = "v1" if name else report.untagged[0].partition("@")[2]
    assert layers_of(store, "mine", reference) == LAYERS
    assert report.manifests == 1
    (skipped,) = report.skipped
    assert skipped.startswith(f"{sha256(empty)} (it lists 0 layers, and its image has 2: sha256:")


def test_one_name_for_two_images_is_refused(store, imported):
    saved = Saved()
    saved.in_index(saved.manifest(LAYERS), "app:v1").in_manifest_json(LAYERS[:1], "app:v1")
    with pytest.raises(LayoutInvalidError, match="mine:v1 is the name of two entries"), unchanged(store.root):
        imported(saved.bytes(), "mine")


@pytest.mark.parametrize("gone", ["config", "layer"])
def test_an_image_of_which_something_is_missing_is_named_and_nothing_comes_in(store, imported, gone):
    saved = Saved()
    saved.in_index(saved.manifest(LAYERS), "app:v1").in_manifest_json(LAYERS[:1], "other:v2")
    saved.in_manifest_json([b"lonely"], "third:v3")
    name = saved.listed[-1]["Config"] if gone == "config" else saved.listed[-1]["Layers"][0]
    del saved.blobs[name]
    with pytest.raises(LayoutInvalidError, match=f"{name}' is missing"), unchanged(store.root):
        imported(saved.bytes())


@pytest.mark.parametrize("listed", [b"{}", b"[", b'[{"Config":1}]'])
def test_a_manifest_json_that_cannot_be_read_is_an_error(store, imported, listed):
    saved = Saved()
    saved.in_index(saved.manifest(LAYERS), "app:v1")
    with pytest.raises(LayoutInvalidError, match=r"manifest\.json: "), unchanged(store.root):
        imported(saved.bytes(manifest_json=listed))


@pytest.mark.parametrize("index", [b"{", b"[]", b'{"schemaVersion":2}', b'{"schemaVersion":2,"manifests":{}}'])
def test_an_index_that_cannot_be_read_is_an_error(store, imported, index):
    saved = Saved().in_manifest_json(LAYERS, "app:v1")
    with pytest.raises(LayoutInvalidError, match=r"index\.json: "), unchanged(store.root):
        imported(saved.bytes(index=index))


def test_without_an_index_manifest_json_is_read_whatever_else_there_is(imported):
    saved = Saved().in_manifest_json(LAYERS, "app:v1")
    assert imported(saved.bytes(index=b"")).tags == ("app:v1",)


def test_layers_of_the_oldest_form_are_read_beside_an_index(store, imported):
    # The layers lie where Docker 24 puts them, and the archive says that it is a layout before they come.
    saved = Saved()
    saved.in_index(saved.manifest([b"of the index"]), "app:v1")
    old = docker_members({"old:v1": LAYERS})
    saved.listed = json.loads(old[-1][1])
    report = imported(saved.bytes(more=old[:-1]))
    assert report.tags == ("docker.io/library/app:v1", "old:v1")
    assert layers_of(store, "old", "v1") == LAYERS


def test_selectors_and_platforms_choose_among_all(store, imported):
    saved = Saved()
    saved.in_index(saved.manifest(LAYERS), "app:v1").in_manifest_json(LAYERS[:1], "other:v2", architecture="arm64")
    assert imported(saved.bytes(), references=["other:v2=mine"]).tags == ("mine:v2",)
    report = imported(saved.bytes(), platforms=["linux/arm64"])
    assert (report.tags, report.other_platforms) == (("other:v2",), ("docker.io/library/app:v1",))


@pytest.mark.parametrize("index", [None, b""])
def test_a_name_that_only_repositories_has_is_said(imported, index):
    saved = Saved()
    saved.in_index(saved.manifest(LAYERS), "app:v1").in_manifest_json(LAYERS, "app:v1")
    saved.repositories = {"app": {"v1": "0" * 64, "v9": "0" * 64}, "odd": 3}
    report = imported(saved.bytes(index=index))
    assert report.skipped == ("'app:v9' (only the file repositories names it)",)


def test_an_archive_with_no_more_than_repositories_is_said_to_be_that(store, imported):
    content = tarred([member("0/layer.tar", b"x"), member("repositories", document({"app": {"v1": "0"}}))])
    with pytest.raises(ArchiveInvalidError, match=r"before version 1\.10"), unchanged(store.root):
        imported(content)


@pytest.mark.parametrize("index", [None, *NOTHING])
def test_an_unpacked_archive_is_read_as_the_archive_is(store, tmp_path, index):
    saved = Saved()
    saved.in_index(saved.manifest(LAYERS), "app:v1")
    saved.in_manifest_json(LAYERS, "app:v1").in_manifest_json(LAYERS[:1], "other:v2", compress=COMPRESSIONS["gzip"])
    with tarfile.open(fileobj=io.BytesIO(saved.bytes(index=index))) as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    report = store.import_(tmp_path / "unpacked")
    assert report.tags == (("docker.io/library/app:v1" if index is None else "app:v1"), "other:v2")
    assert layers_of(store, "other", "v2") == [COMPRESSIONS["gzip"](LAYERS[0])]
    (tmp_path / "unpacked" / saved.listed[-1]["Layers"][0]).write_bytes(b"\x1f\x8b, and something else")
    with pytest.raises(LayoutInvalidError, match="content has digest"), unchanged(store.root):
        store.import_(tmp_path / "unpacked")
    (tmp_path / "unpacked" / saved.listed[-1]["Layers"][0]).unlink()
    with pytest.raises(LayoutInvalidError, match="is missing"), unchanged(store.root):
        store.import_(tmp_path / "unpacked")


@pytest.mark.parametrize("content", [b"{}", b"text", None])
def test_another_manifest_json_beside_a_layout_is_none_of_docker(store, tmp_path, content):
    saved = Saved()
    saved.in_index(saved.manifest(LAYERS), "app:v1")
    with tarfile.open(fileobj=io.BytesIO(saved.bytes())) as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    (tmp_path / "unpacked" / "manifest.json").unlink()
    if content is None:
        (tmp_path / "unpacked" / "manifest.json").mkdir()
    else:
        (tmp_path / "unpacked" / "manifest.json").write_bytes(content)
    assert store.import_(tmp_path / "unpacked").tags == ("docker.io/library/app:v1",)


@pytest.mark.parametrize(("count", "seconds"), [(500, 2), pytest.param(3000, 20, marks=pytest.mark.slow)])
def test_many_names_of_many_entries_take_time_by_their_number(store, imported, count, seconds):
    saved = Saved()
    manifest = saved.manifest(LAYERS)
    saved.in_manifest_json(LAYERS, *(f"app:n{number}" for number in range(count)))
    for number in range(count):
        saved.in_index(manifest, f"app:m{number}")
    began = time.process_time()
    assert len(imported(saved.bytes(), "mine").tags) == 2 * count
    assert time.process_time() - began < seconds


def test_an_index_that_leads_to_more_than_anybody_lists_is_refused(store, imported, monkeypatch):
    monkeypatch.setattr("ocistore.layouts.imports.united._MAXIMUM_STEPS", 1000)
    saved = Saved()
    manifests = [saved.manifest(LAYERS[:1], number=number) for number in range(50)]
    for number in range(30):
        index = document(
            {
                "schemaVersion": 2,
                "manifests": [described(manifest, mediatypes.OCI_MANIFEST) for manifest in manifests],
                "annotations": {"number": str(number)},
            }
        )
        saved.blob(index)
        saved.entries.append(described(index, mediatypes.OCI_INDEX))
    with pytest.raises(LayoutInvalidError, match="list more than 1000 manifests"), unchanged(store.root):
        imported(saved.bytes(), "mine")


def test_what_was_imported_twice_is_the_same(store, imported):
    saved = Saved()
    saved.in_index(saved.manifest(LAYERS), "app:v1").in_manifest_json(LAYERS[:1], "other:v2")
    first = imported(saved.bytes())
    again = imported(saved.bytes())
    assert (again.new_bytes, again.moved, again.tags) == (0, (), first.tags)


# --- names ------------------------------------------------------------------------------------------------------------

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("name", "tags"),
    [
        ("app", ("app:latest",)),
        ("docker.io/library/busybox", ("docker.io/library/busybox:latest",)),
        ("localhost:5000/app", ("app:latest",)),
        (f"app:v1@{sha256(config_of(LAYERS))}", ("app:v1",)),
    ],
)
def test_names_in_manifest_json_are_read_as_docker_reads_them(imported, name, tags):
    report = imported(tarred(docker_members({name: LAYERS})))
    assert (report.tags, report.untagged) == (tags, ())


@pytest.mark.parametrize("name", [f"app@{DIGEST}", f"app:v1@{DIGEST}"])
@pytest.mark.parametrize("twice", [True, False])
def test_a_name_with_the_digest_of_another_image_is_refused(store, imported, name, twice):
    saved = Saved().in_manifest_json(LAYERS, name)
    saved.in_index(saved.manifest(LAYERS), "app:v2")
    with pytest.raises(LayoutInvalidError, match="is the name of another image"), unchanged(store.root):
        imported(saved.bytes(index=None if twice else b""))


@pytest.mark.parametrize("twice", [True, False])
def test_a_name_with_a_digest_of_an_unknown_algorithm_is_left_out_and_refused_where_asked_for(store, imported, twice):
    name = f"app:v1@md5:{'0' * 32}"
    saved = Saved().in_manifest_json(LAYERS, name, "app:v2")
    saved.in_index(saved.manifest(LAYERS), "app:v2")
    content = saved.bytes(index=None if twice else b"")
    report = imported(content)
    [said] = report.unusable
    assert [tag.removeprefix("docker.io/library/") for tag in report.tags] == ["app:v2"]
    assert name in said
    assert "a digest of an unknown algorithm" in said
    with pytest.raises(LayoutInvalidError, match="unknown algorithm"), unchanged(store.root):
        imported(content, references=["app:v1"])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (f"app@{sha256(config_of(LAYERS))}", ""),
        ("app@v1", " ('app@v1' is no name: 'v1' is no digest)"),
        ("app:v1@", " ('app:v1@' is no name: '' is no digest)"),
        ("@", " ('@' is no name: '' is no digest)"),
        ("<none>:<none>", ""),
    ],
)
def test_a_name_that_is_none_is_said_and_the_image_comes_in(imported, name, reason):
    (untagged,) = imported(tarred(docker_members({name: LAYERS})), "mine").untagged
    assert untagged[len("mine@sha256:") + 64 :] == reason


def test_an_image_that_index_json_has_in_another_algorithm_is_one_image(store, tmp_path):
    saved = Saved()
    config = config_of(LAYERS)

    def blob(content):
        encoded = hashlib.sha512(content).hexdigest()
        saved.blobs[f"blobs/sha512/{encoded}"] = content
        return {"digest": f"sha512:{encoded}", "size": len(content)}

    content = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": mediatypes.OCI_MANIFEST,
            "config": {"mediaType": mediatypes.OCI_CONFIG, **blob(config)},
            "layers": [{"mediaType": mediatypes.OCI_LAYER, **blob(layer)} for layer in LAYERS],
        }
    ).encode()
    entry = {"mediaType": mediatypes.OCI_MANIFEST, **blob(content), "annotations": {REF_NAME: "v1"}}
    path = {digest: f"blobs/sha512/{hashlib.sha512(digest).hexdigest()}" for digest in (config, *LAYERS)}
    listed = [{"Config": path[config], "RepoTags": ["app:v1"], "Layers": [path[layer] for layer in LAYERS]}]
    index = {"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": [entry]}
    members = {"oci-layout": VERSION, "index.json": document(index), "manifest.json": document(listed), **saved.blobs}
    archive = tmp_path / "saved.tar"
    with tarfile.open(archive, "w") as tar:
        for name, data in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    report = store.import_(archive, "mine")
    assert (report.tags, report.manifests) == (("mine:v1",), 1)
    assert store.repository("mine").resolve("v1").digest == entry["digest"]
