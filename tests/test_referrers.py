"""Referrers: what says something about a manifest, found by its subject (distribution spec, "Listing Referrers")."""

import pytest
from images import APP, SBOM, SIGNATURE, artifact, described, document, image, index, note, push
from state import unchanged

from ocistore import Descriptor, Digest, RepositoryNotFoundError
from ocistore.oci import mediatypes

pytestmark = pytest.mark.every_pool


def digests(found):
    return [descriptor.digest for descriptor in found]


@pytest.fixture
def sbom():
    return artifact("sbom", subject=APP, annotations={"tool": "x", "é": "ü\n"})


@pytest.fixture
def signature():
    return artifact("signature", subject=APP, artifact_type=SIGNATURE)


def test_referrers_are_listed_in_byte_order_of_their_digests(repository):
    pushed = [artifact(number, subject=APP) for number in range(5)]
    for each in pushed:
        push(repository, each)
    assert digests(repository.referrers(APP.digest)) == sorted(each.digest for each in pushed)


def test_a_referrer_is_described_with_its_artifact_type_and_annotations(repository, sbom):
    push(repository, APP)
    push(repository, sbom)
    assert repository.referrers(APP.digest) == [
        Descriptor(
            mediatypes.OCI_MANIFEST,
            sbom.digest,
            len(sbom.manifest),
            annotations={"tool": "x", "é": "ü\n"},
            artifact_type=SBOM,
        )
    ]


def test_a_referrer_is_described_as_its_manifest_describes_itself(repository, sbom):
    push(repository, sbom)
    assert repository.referrers(APP.digest) == [repository.get_manifest(sbom.digest).as_referrer()]


@pytest.mark.parametrize(
    ("wanted", "found"), [(None, 2), (SBOM, 1), (SIGNATURE, 1), (SBOM.upper(), 0), ("application/none", 0), ("", 0)]
)
def test_referrers_are_filtered_by_their_exact_artifact_type(repository, sbom, signature, wanted, found):
    push(repository, sbom)
    push(repository, signature)
    listed = repository.referrers(APP.digest, artifact_type=wanted)
    assert len(listed) == found
    assert wanted is None or all(descriptor.artifact_type == wanted for descriptor in listed)


def test_without_an_artifact_type_the_configs_type_stands_for_it(repository):
    helm = artifact("chart", subject=APP, artifact_type=None, config_type="application/vnd.example.config.v1+json")
    push(repository, helm)
    (found,) = repository.referrers(APP.digest, artifact_type="application/vnd.example.config.v1+json")
    assert (found.digest, found.artifact_type) == (helm.digest, "application/vnd.example.config.v1+json")


def test_an_image_can_be_a_referrer_and_its_artifact_type_is_its_configs(repository):
    push(repository, image("variant", subject=APP))
    (found,) = repository.referrers(APP.digest)
    assert found.artifact_type == mediatypes.OCI_CONFIG


def test_an_index_can_be_a_referrer(repository):
    bundle = index([note(1)], subject=APP, artifact_type=SBOM, annotations={"a": "b"})
    push(repository, bundle)
    size = len(bundle.manifest)
    assert repository.referrers(APP.digest, artifact_type=SBOM) == [
        Descriptor(mediatypes.OCI_INDEX, bundle.digest, size, annotations={"a": "b"}, artifact_type=SBOM)
    ]


def test_an_index_without_artifact_type_has_none_as_a_referrer(repository):
    push(repository, index(subject=APP))
    (found,) = repository.referrers(APP.digest)
    assert found.artifact_type is None


def test_referrers_are_found_before_their_subject_is_pushed_and_after(repository, sbom):
    push(repository, sbom)
    assert digests(repository.referrers(APP.digest)) == [sbom.digest]
    push(repository, APP, "v1")
    assert digests(repository.referrers(APP.digest)) == [sbom.digest]
    assert repository.get_manifest("v1").content == APP.manifest


def test_referrers_of_a_referrer_are_its_own(repository, sbom):
    about_sbom = artifact("signature of the sbom", subject=sbom)
    for each in (APP, sbom, about_sbom):
        push(repository, each)
    assert digests(repository.referrers(APP.digest)) == [sbom.digest]
    assert digests(repository.referrers(sbom.digest)) == [about_sbom.digest]


def test_a_subject_can_be_named_by_any_algorithm(repository):
    repository.put_blob(b"{}")
    subject = Digest.of(APP.manifest, "sha512")
    described_subject = described(APP.manifest, APP.media_type, algorithm="sha512")
    referrer = {"schemaVersion": 2, "config": described(b"{}"), "layers": [], "subject": described_subject}
    put = repository.put_manifest(document(referrer))
    assert digests(repository.referrers(subject)) == [put.digest]
    assert repository.referrers(APP.digest) == []


def test_referrers_of_another_repository_are_not_listed(store, repository, sbom, signature):
    push(repository, APP)
    push(repository, sbom)
    other = store.repository("other")
    push(other, APP)
    push(other, signature)
    assert digests(repository.referrers(APP.digest)) == [sbom.digest]
    assert digests(other.referrers(APP.digest)) == [signature.digest]


def test_a_deleted_referrer_is_not_listed(repository, sbom, signature):
    push(repository, sbom)
    push(repository, signature)
    repository.delete_manifest(sbom.digest)
    assert digests(repository.referrers(APP.digest)) == [signature.digest]


def test_referrers_stay_when_their_subject_is_deleted(repository, sbom):
    push(repository, APP)
    push(repository, sbom)
    repository.delete_manifest(APP.digest)
    assert digests(repository.referrers(APP.digest)) == [sbom.digest]


def test_what_nobody_refers_to_has_no_referrers(repository):
    push(repository, index([APP]), "all")
    assert repository.referrers(APP.digest) == []  # its index is its parent and says nothing about it
    assert repository.referrers(Digest.of(b"unseen")) == []


def test_a_referrer_put_again_is_listed_once(repository, sbom):
    push(repository, sbom)
    push(repository, sbom)
    assert digests(repository.referrers(APP.digest)) == [sbom.digest]


def test_asking_a_repository_that_does_not_exist_says_so_and_makes_none(store, repository, sbom):
    push(store.repository("other"), sbom)
    with unchanged(store.root), pytest.raises(RepositoryNotFoundError) as caught:
        repository.referrers(APP.digest)
    assert caught.value.name == "library/app"
