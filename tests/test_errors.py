"""Errors: one class, one exit code and a code of the specification for each thing that can be wrong."""

import ast
import copy
import json
import pickle
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields
from multiprocessing import get_context
from pathlib import Path

import pytest

import ocistore
from ocistore import errors

TESTS = Path(__file__).parent
CLASSES = [thing for thing in vars(errors).values() if isinstance(thing, type) and issubclass(thing, Exception)]
CONCRETE = [error for error in CLASSES if error is not errors.OCIStoreError]

# The distribution specification, "Error Codes"; SIZE_INVALID is of that list too. UNAVAILABLE is what registries add.
CODES = {
    "BLOB_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID", "MANIFEST_UNKNOWN", "NAME_INVALID", "NAME_UNKNOWN", "SIZE_INVALID", "DENIED", "UNSUPPORTED",
    "UNAVAILABLE",
}  # fmt: skip

VALUES = {
    "str": "a", "object": "..", "str | None": "sha256:b", "tuple[str, ...]": ("sha256:a", "sha256:b"),
    "Mapping[str, str]": {"sha256:a": "image"}, "int": 7, "int | None": 5, "float": 1.5, "bool": True,
    "Path": Path("/x"),
}  # fmt: skip

EXAMPLES = [error(*(VALUES[field.type] for field in fields(error))) for error in CONCRETE]

WAYS = {
    "pickle": lambda error: pickle.loads(pickle.dumps(error)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "args": lambda error: type(error)(*error.args),
    "args in JSON, as in Celery": lambda error: type(error)(*json.loads(json.dumps(error.args))),
}


@pytest.mark.parametrize("error", CONCRETE)
def test_every_error_is_one_of_ours_with_a_code_of_the_specification(error):
    assert issubclass(error, errors.OCIStoreError)
    assert error.code in CODES


def test_no_two_errors_share_an_exit_code_and_none_has_that_of_a_shell_or_of_click():
    codes = [error.exit_code for error in CONCRETE]
    assert len(set(codes)) == len(codes)
    assert not {0, 1, 2} & set(codes)
    assert max(codes) < 126


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_is_a_public_name(error):
    assert getattr(ocistore, error.__name__) is error
    assert error.__name__ in ocistore.__all__


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_keeps_its_fields_on_its_way_to_another_process(error, way):
    again = way(error)
    assert type(again) is type(error)
    assert (str(again), vars(again), again.args) == (str(error), vars(error), error.args)


def refuse(index):
    raise EXAMPLES[index]


def test_an_error_of_a_worker_process_arrives_whole():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        for index, error in enumerate(EXAMPLES):
            again = executor.submit(refuse, index).exception()
            assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_a_message_says_what_is_wrong_and_leaves_no_field_unfilled(error):
    assert str(error)
    assert "{" not in str(error)
    assert repr(error) == f"{type(error).__name__}({str(error)!r})"


def test_a_note_added_to_an_error_travels_with_it():
    error = errors.StoreClosedError("the store")
    error.add_note("while it was opened")
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["while it was opened"]


def test_an_error_of_somebody_else_may_have_any_constructor():
    class OursError(errors.OCIStoreError):
        pass

    class MissingError(errors.BlobNotFoundError):
        def __init__(self, digest):
            super().__init__(digest, repository="a")

    assert str(OursError("it broke")) == "it broke"
    assert str(MissingError("sha256:a")) == "repository 'a' holds no blob sha256:a"


def test_a_long_list_of_missing_blobs_is_cut_in_the_text_and_whole_in_the_field():
    missing = [f"sha256:{number:064}" for number in range(10_000)]
    error = errors.ManifestBlobUnknownError(missing, repository="a")
    assert len(str(error)) < 3_000
    assert error.missing == tuple(missing)


def expected_somewhere(wanted):
    """Those of the names that are in a ``pytest.raises`` of the tests, or in a table that feeds one."""
    names = set()
    for path in TESTS.rglob("test_*.py"):
        if path.name != Path(__file__).name:
            source = path.read_text(encoding="utf-8")
            if not any(name in source for name in wanted - names):
                continue
            tree = ast.parse(source)
            names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
            names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return names & wanted


def test_every_error_is_raised_by_a_test():
    wanted = {error.__name__ for error in CONCRETE}
    assert wanted - expected_somewhere(wanted) == set()
