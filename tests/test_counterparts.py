"""What the system that this one grew from offered, what stands for it here, and its mistakes, each with a test.

The first version of that system (2019) had the nineteen operations below. Each row names the counterpart, a test of the
same behaviour, and a test that the mistake which that version made is not made here.
"""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from images import image, index, note, push
from state import rows

import ocistore
from ocistore import Store

TESTS = Path(__file__).parent


@dataclass(frozen=True)
class Row:
    """One operation. Tests are named as pytest names them, from the directory of the tests on."""

    seed: str
    counterparts: tuple[str, ...]
    behaviour: str
    mistake: str
    """What the operation did wrong then."""
    avoided: str


TABLE = (
    Row(
        "InitRepo",
        ("Store.open", "Store.repository"),
        "test_repositories.py::test_naming_a_repository_touches_nothing",
        "names were not checked, so that they could climb out of the root",
        "test_bad_input.py::test_a_name_that_no_repository_can_have_is_refused",
    ),
    Row(
        "InitRepo",
        ("Store.open",),
        "test_repositories.py::test_every_name_of_the_grammar_can_be_that_of_a_repository",
        "what was half made was never repaired",
        "test_counterparts.py::test_a_store_whose_making_was_interrupted_is_completed",
    ),
    Row(
        "ValidateRepo",
        ("Store.open", "Store.repositories"),
        "test_bad_input.py::test_what_is_no_store_is_not_opened_and_not_touched",
        "a repository was what had exactly four entries, so that one inside the name of another was invisible",
        "test_repositories.py::test_a_repository_and_one_inside_its_name_know_nothing_of_each_other",
    ),
    Row(
        "GetRepositories",
        ("Store.repositories",),
        "test_repositories.py::test_repositories_are_listed_in_byte_order",
        "it walked the whole tree, and knew no pages",
        "test_repositories.py::test_a_list_begins_behind_a_name_and_ends_at_the_limit",
    ),
    Row(
        "GetImageTags",
        ("Repository.tags",),
        "test_tags.py::test_tags_are_listed_in_byte_order_however_they_came",
        "it read all of the index for each call, and knew no pages",
        "test_tags.py::test_pages_put_together_are_the_whole_list",
    ),
    Row(
        "GetImageManifest",
        ("Repository.get_manifest", "Repository.resolve"),
        "test_manifests_of_a_repository.py::test_a_manifest_comes_back_byte_for_byte",
        "a missing or damaged manifest came out as whatever the file system said",
        "test_manifests_of_a_repository.py::test_a_damaged_manifest_is_never_served",
    ),
    Row(
        "PutImageManifest",
        ("Repository.put_manifest",),
        "test_manifests_of_a_repository.py::test_every_kind_of_manifest_is_stored_under_its_own_media_type",
        "only layers were checked, never the config",
        "test_manifests_of_a_repository.py::test_a_manifest_lacking_one_blob_is_refused",
    ),
    Row(
        "PutImageManifest",
        ("Repository.put_manifest",),
        "test_tags.py::test_a_tag_resolves_to_what_it_was_set_to",
        "a tag that moved kept the old size and media type",
        "test_tags.py::test_a_moved_tag_has_the_size_and_type_of_what_it_points_at_now",
    ),
    Row(
        "PutImageManifest",
        ("Repository.put_manifest", "Repository.tag"),
        "test_manifests_of_a_repository.py::test_tags_given_with_a_manifest_are_set_each_once",
        "the old digest was lost at once when its tag moved",
        "test_tags.py::test_a_moved_tag_leaves_the_old_manifest_readable_under_its_digest",
    ),
    Row(
        "PutImageManifest",
        ("Repository.put_manifest",),
        "test_manifests_of_a_repository.py::test_an_index_shows_its_children_with_their_platforms",
        "every layer had to be there, foreign ones too",
        "test_manifests_of_a_repository.py::test_a_foreign_layer_need_not_be_here",
    ),
    Row(
        "PutImageManifest",
        ("Repository.put_manifest",),
        "test_manifests_of_a_repository.py::test_a_manifest_put_again_changes_no_row_but_its_grace_and_makes_no_event",
        "the platform amd64/linux was written into every descriptor",
        "test_counterparts.py::test_no_platform_is_made_up",
    ),
    Row(
        "DeleteImageManifest",
        ("Repository.delete_manifest", "Repository.untag"),
        "test_manifests_of_a_repository.py::test_a_deleted_manifest_goes_with_the_tags_that_point_at_it_and_no_others",
        "deleting a tag deleted the manifest that other tags used",
        "test_tags.py::test_untag_keeps_the_manifest_and_its_other_tags",
    ),
    Row(
        "DeleteImageManifest",
        ("Repository.delete_manifest",),
        "test_manifests_of_a_repository.py::test_deleting_a_manifest_that_is_not_here_is_refused",
        "a manifest inside an index could be deleted",
        "test_manifests_of_a_repository.py::"
        "test_a_manifest_in_an_index_is_not_deleted_and_the_error_lists_every_such_index",
    ),
    Row(
        "BlobUploadPath",
        ("Repository.start_upload",),
        "test_uploads.py::test_a_session_makes_one_blob_file_and_leaves_nothing_else",
        "the id became part of a path without a check",
        "test_uploads.py::test_an_id_of_no_session_is_not_found_whatever_it_looks_like",
    ),
    Row(
        "NewBlobUpload",
        ("Repository.start_upload",),
        "test_uploads.py::test_a_repository_exists_from_its_first_upload",
        "sessions never expired",
        "test_uploads.py::test_open_sessions_are_listed_with_what_has_arrived",
    ),
    Row(
        "GetBlobUpload",
        ("Repository.upload",),
        "test_uploads.py::test_a_session_resumes_in_another_process_and_back",
        "two writers could have one session open",
        "test_uploads.py::test_a_session_that_is_open_in_another_process_is_busy_until_that_closes_it",
    ),
    Row(
        "PutBlobChunk",
        ("Upload.write",),
        "test_uploads.py::test_a_blob_uploaded_in_chunks_is_served_whole",
        "a chunk had to say where it starts, and the answer was its own length and not where the upload stands",
        "test_uploads.py::test_a_chunk_out_of_order_is_refused_and_told_where_the_upload_stands",
    ),
    Row(
        "BlobUploadInfo",
        ("Repository.uploads", "Upload.offset"),
        "test_uploads.py::test_open_sessions_are_listed_with_what_has_arrived",
        "an unknown id came out as whatever the file system said",
        "test_uploads.py::test_a_session_of_another_repository_is_not_found",
    ),
    Row(
        "FinishBlobUpload",
        ("Upload.commit",),
        "test_uploads.py::test_a_wrong_digest_keeps_the_session_and_its_bytes",
        "it read again what had just been hashed",
        "test_uploads.py::test_a_commit_does_not_read_the_bytes_again",
    ),
    Row(
        "FinishBlobUpload",
        ("Upload.commit",),
        "test_uploads.py::test_an_uploaded_blob_can_be_part_of_a_manifest",
        "it computed sha256 only, although the algorithm was a parameter",
        "test_uploads.py::test_any_algorithm_can_be_committed_whatever_the_session_hashed_with",
    ),
    Row(
        "FinishBlobUpload",
        ("Upload.commit",),
        "test_uploads.py::test_nobody_sees_the_bytes_before_the_commit",
        "an error of the rename was ignored, so that success was reported and nothing stored",
        "test_uploads.py::test_a_commit_that_fails_after_the_bytes_were_published_keeps_the_session",
    ),
    Row(
        "DeleteBlobUpload",
        ("Upload.cancel",),
        "test_uploads.py::test_a_cancelled_session_is_gone_with_its_bytes",
        "an unknown id was a success",
        "test_uploads.py::test_a_session_whose_file_is_gone_is_not_found",
    ),
    Row(
        "BlobPath",
        ("Repository.open_blob",),
        "test_blobs_of_a_repository.py::test_a_blob_is_one_read_only_file_and_nothing_else_is_left",
        "each repository had a copy of its own",
        "test_blobs_of_a_repository.py::test_two_repositories_share_the_bytes_of_a_blob",
    ),
    Row(
        "CheckBlob",
        ("Repository.stat_blob",),
        "test_blobs_of_a_repository.py::test_stat_says_the_size",
        "a file of that name was enough, whatever its size",
        "test_blobs_of_a_repository.py::test_a_damaged_blob_is_never_served",
    ),
    Row(
        "CheckBlob",
        ("Repository.stat_blob", "Repository.mount_blob"),
        "test_blobs_of_a_repository.py::test_a_mounted_blob_is_served_without_its_bytes_moving",
        "later, a mount ignored which repository it came from",
        "test_blobs_of_a_repository.py::test_a_mount_of_what_only_a_third_repository_holds_is_refused",
    ),
    Row(
        "GetBlob",
        ("Repository.open_blob",),
        "test_blobs_of_a_repository.py::test_a_blob_comes_back_byte_for_byte_from_every_kind_of_source",
        "it gave a reader that nobody could close",
        "test_blobs_of_a_repository.py::test_a_reader_is_a_seekable_binary_file_that_knows_its_size",
    ),
    Row(
        "DeleteBlob",
        ("Repository.delete_blob",),
        "test_blobs_of_a_repository.py::test_a_deleted_blob_is_not_served_and_not_deleted_twice",
        "blobs of living images were deleted",
        "test_blobs_of_a_repository.py::test_a_blob_in_use_is_not_deleted_and_the_error_lists_all_that_use_it",
    ),
    Row(
        "Scrub",
        ("Store.scrub",),
        "upkeep/test_scrub.py::test_a_store_without_damage_is_clean_at_every_level",
        "it was an empty function; its successor only reports",
        "upkeep/test_scrub.py::test_damage_is_moved_aside_named_and_heals_when_it_is_pushed_again",
    ),
)

SEED = {
    "InitRepo", "ValidateRepo", "GetRepositories", "GetImageTags", "GetImageManifest", "PutImageManifest",
    "DeleteImageManifest", "BlobUploadPath", "NewBlobUpload", "GetBlobUpload", "PutBlobChunk", "BlobUploadInfo",
    "FinishBlobUpload", "DeleteBlobUpload", "BlobPath", "CheckBlob", "GetBlob", "DeleteBlob", "Scrub",
}  # fmt: skip


def functions_of(name):
    tree = ast.parse((TESTS / name).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_table_has_every_operation():
    assert {row.seed for row in TABLE} == SEED


@pytest.mark.parametrize("name", sorted({name for row in TABLE for name in (row.behaviour, row.avoided)}))
def test_the_table_names_tests_that_exist(name):
    module, _, function = name.partition("::")
    assert function.startswith("test_")
    assert function in functions_of(module)


def test_no_mistake_is_tested_by_the_test_of_the_behaviour():
    assert [row for row in TABLE if row.behaviour == row.avoided] == []


def counterpart(name):
    owner, _, attribute = name.partition(".")
    return getattr(getattr(ocistore, owner), attribute, None)


@pytest.mark.parametrize("name", sorted({name for row in TABLE for name in row.counterparts}))
def test_the_table_names_counterparts_that_exist(name):
    assert counterpart(name) is not None


# Mistakes whose tests belong nowhere else.


def test_no_platform_is_made_up(store, repository):
    push(repository, image(architecture="riscv64"), "v1")
    push(repository, note(1), "v2")
    push(repository, index([note(1)]), "all")
    (child,) = json.loads(repository.get_manifest("all").content)["manifests"]
    assert "platform" not in child
    for found in (repository.resolve("v2"), *repository.manifests(), *repository.get_manifest("all").manifests):
        assert found.platform is None
    assert "riscv64" in str(rows(store.root))
    assert "amd64" not in str(rows(store.root))


@pytest.mark.parametrize("present", [["write.lock"], ["write.lock", "uploads", "blobs"], ["write.lock", "catalog.db"]])
def test_a_store_whose_making_was_interrupted_is_completed(tmp_path, present):
    root = tmp_path / "store"
    root.mkdir()
    for name in present:
        (root / name).touch() if "." in name else (root / name).mkdir()
    with Store.open(root) as store:
        push(store.repository("a"), note(1), "v1")
        assert store.repository("a").get_manifest("v1").content == note(1).manifest
