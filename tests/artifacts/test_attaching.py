"""What is about what: attached, and found again to any depth."""

import functools
import json
import sys

import pytest
from images import artifact, image, index, note, push
from state import unchanged

from ocistore import ArtifactInvalidError, InvalidNameError, ManifestInvalidError, ManifestNotFoundError
from ocistore.artifacts import attach_files, discover, push_files, referrers


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "sbom.json"
    path.write_bytes(b"{}")
    return path


def test_what_is_attached_is_an_artifact_about_its_subject_without_a_tag(store, repository, file):
    about = image("app")
    push(repository, about, "v1")
    for reference in ("library/app:v1", f"library/app@{about.digest}"):
        attached = attach_files(
            store, reference, [file], artifact_type="application/spdx+json", annotations={"b": "2", "a": "1"}
        )
        manifest = repository.get_manifest(attached.digest)
        assert manifest.subject.digest == about.digest
        assert manifest.artifact_type == "application/spdx+json"
        assert dict(manifest.annotations) == {"a": "1", "b": "2"}
        assert [layer.annotations["org.opencontainers.image.title"] for layer in manifest.layers] == ["sbom.json"]
        assert list(repository.tags()) == ["v1"]
    pushed = push_files(
        store,
        "library/app",
        [file],
        artifact_type="application/spdx+json",
        annotations={"a": "1", "b": "2"},
        subject="library/app:v1",
    )
    assert pushed == attached


def test_annotations_alone_can_say_it_all(store, repository):
    push(repository, image("app"), "v1")
    attached = attach_files(store, "library/app:v1", artifact_type="a/b", annotations={"approved": "yes"})
    assert json.loads(repository.get_manifest(attached.digest).content)["layers"] == []


@pytest.mark.parametrize(
    ("reference", "more", "error"),
    [
        ("library/app:v1", {"artifact_type": "a/b"}, ArtifactInvalidError),
        ("library/app:v1", {"artifact_type": "no type", "annotations": {"a": "b"}}, ManifestInvalidError),
        ("library/app:v1", {"artifact_type": "a/b", "annotations": {"a": "b"}, "media_types": {"x": "a/b"}},
         ArtifactInvalidError),
        ("library/app:v2", {"artifact_type": "a/b", "annotations": {"a": "b"}}, ManifestNotFoundError),
        ("library/app", {"artifact_type": "a/b", "annotations": {"a": "b"}}, InvalidNameError),
    ],
)  # fmt: skip
def test_bad_arguments_change_nothing(store, repository, reference, more, error):
    push(repository, image("app"), "v1")
    with unchanged(store.root), pytest.raises(error):
        attach_files(store, reference, **more)


def test_referrers_are_found_to_any_depth_each_behind_its_subject(store, repository):
    root = image("app")
    push(repository, root, "v1")
    first = [artifact(number, subject=root) for number in range(3)]
    second = [artifact(f"about {number}", subject=first[1], artifact_type="a/b") for number in range(2)]
    for each in (*first, *second):
        push(repository, each)
    found = discover(store, "library/app:v1")
    expected = []
    for each in sorted(first, key=lambda each: each.digest):
        expected.append((each.digest, root.digest, 1))
        if each is first[1]:
            expected += [(below.digest, each.digest, 2) for below in sorted(second, key=lambda below: below.digest)]
    assert [(each.descriptor.digest, each.subject, each.depth) for each in found.referrers] == expected
    assert found.root.digest == root.digest
    assert {each.descriptor.digest for each in found.about(first[1].digest)} == {each.digest for each in second}
    assert discover(store, "library/app:v1", artifact_type="a/b").referrers == ()
    assert len(discover(store, f"library/app@{first[1].digest}", artifact_type="a/b").referrers) == 2


def test_a_chain_longer_than_the_stack_is_deep_is_followed(store, repository, request):
    request.addfinalizer(functools.partial(sys.setrecursionlimit, sys.getrecursionlimit()))
    sys.setrecursionlimit(400)
    longer = 500
    subject = note(0)
    with store.transaction() as transaction:
        changes = transaction.repository("library/app")
        push(changes, subject, "v1")
        for number in range(1, longer + 1):
            subject = index(annotations={"number": str(number)}, subject=subject)
            changes.put_manifest(subject.manifest)
    found = discover(store, "library/app:v1").referrers
    assert len(found) == longer
    assert found[-1].depth == longer
    assert found[-1].descriptor.digest == subject.digest


def test_what_claims_to_be_about_itself_is_listed_once(store, repository, monkeypatch):
    push(repository, root := image("app"), "v1")
    push(repository, artifact("about", subject=root))
    (about,) = repository.referrers(root.digest)
    # No hash lets anybody make such a ring; a catalog that was tampered with can say that there is one.
    monkeypatch.setattr(type(repository), "referrers", lambda *_, **__: [about, repository.resolve(root.digest)])
    assert [each.descriptor for each in discover(store, "library/app:v1").referrers] == [about]


def test_more_referrers_than_anybody_can_look_at_are_refused(store, repository, monkeypatch):
    push(repository, root := image("app"), "v1")
    monkeypatch.setattr(referrers, "MAXIMUM_REFERRERS", 2)
    for number in range(2):
        push(repository, artifact(number, subject=root))
    assert len(discover(store, "library/app:v1").referrers) == 2
    push(repository, artifact(2, subject=root))
    with pytest.raises(ArtifactInvalidError, match="more than 2 referrers"):
        discover(store, "library/app:v1")
