"""Each argument of every public function refuses what has a wrong type, by its name, before anything happens."""

import inspect
import itertools
from dataclasses import is_dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
from state import unchanged

import ocistore
import ocistore.artifacts
import ocistore.images
from ocistore import Descriptor, Digest, ImageConfig, Index, Manifest, Store
from ocistore.argumenttypes import _ALIASES, _KINDS, checks_of, checks_types

MODULES = (ocistore, ocistore.artifacts, ocistore.images)
READERS = {"parse", "from_json"}
"""What reads something from outside refuses it as invalid, whatever it is."""
VALUES = {"BlobReader", "Digest"}
"""With all dataclasses: of these only what makes new ones is checked. The rest is called for each of 100,000 names."""
BUILDERS = (Manifest.build, Index.build, ImageConfig.build, Descriptor.of, Descriptor.replace)


class Wrong:
    """Of a type that no argument can have."""


def is_value(thing):
    return is_dataclass(thing) or thing.__name__ in VALUES


def functions():
    """Every public function, and every public method of the classes that do something."""
    for module, name in [(each, name) for each in MODULES for name in each.__all__]:
        thing = getattr(module, name)
        if inspect.isfunction(thing):
            yield f"{module.__name__}.{name}", thing
        if inspect.isclass(thing) and not issubclass(thing, Exception) and not is_value(thing):
            for method in vars(thing):
                function = getattr(getattr(thing, method), "__func__", getattr(thing, method))
                if not method.startswith("_") and inspect.isfunction(function) and method not in READERS:
                    yield f"{name}.{method}", function
    for builder in BUILDERS:
        yield builder.__qualname__, getattr(builder, "__func__", builder)


FUNCTIONS = dict(functions())
ARGUMENTS = [
    (name, argument)
    for name, function in FUNCTIONS.items()
    for argument in function.__annotations__
    if argument != "return"
]


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_a_value_of_a_wrong_type_is_refused_by_the_name_of_the_argument(name, argument):
    with pytest.raises(TypeError, match=rf"^{argument} must be .*, not Wrong$"):
        FUNCTIONS[name](**{argument: Wrong()})


def test_there_are_many_functions():
    assert {"Store.gc", "Store.open", "RepositoryWriter.put_blob", "Upload.write", "ocistore.rebuild"} <= set(FUNCTIONS)
    assert len(ARGUMENTS) > 150


def test_every_name_in_an_annotation_is_known_or_one_of_our_classes():
    ours = {name for module in MODULES for name in module.__all__ if inspect.isclass(getattr(module, name))}
    known = {*_KINDS, *_ALIASES, *ours, "AnyValue", "Unchanged", "Core"}
    found = set()
    for function in FUNCTIONS.values():
        for argument, annotation in function.__annotations__.items():
            if argument != "return":
                words = annotation.replace("[", " ").replace("]", " ").replace("|", " ").replace(",", " ").split()
                found |= set(words)
    assert found - known == set()


def test_what_stands_for_a_text_is_a_choice_among_texts():
    from ocistore.artifacts.layers import LayerForm
    from ocistore.changes import Missing

    aliases = {
        "TransferMode": ocistore.TransferMode,
        "ExportFormat": ocistore.ExportFormat,
        "Compression": ocistore.Compression,
        "Level": ocistore.Level,
        "LayerForm": LayerForm,
        "Missing": Missing,
    }
    assert {name for name, kind in _ALIASES.items() if kind == "str"} == set(aliases)
    for choices in aliases.values():
        assert get_origin(choices) is Literal
        assert {type(choice) for choice in get_args(choices)} == {str}


# --- what is said, and what passes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda store: store.gc(dry_run=None), "dry_run must be True or False, not NoneType"),
        (lambda store: store.gc(dry_run="no"), "dry_run must be True or False, not str"),
        (lambda store: store.gc(grace=3600), "grace must be a datetime.timedelta, such as .*, not int"),
        (lambda store: store.repository(b"a"), "name must be text, not bytes"),
        (lambda store: store.repository("a").tags(limit="5"), "limit must be an int, not str"),
        (lambda store: store.repository("a").tags(limit=True), "limit must be an int, not bool"),
        (lambda store: store.repository("a").put_blob("x", digest=7), "digest must be text or a Descriptor, not int"),
        (lambda store: store.repository("a").put_blob(7), "source must be bytes, a path, .*, not int"),
        (lambda store: store.repository("a").put_manifest("{}"), "content must be bytes or a Manifest, not str"),
        (lambda store: store.repository("a").put_manifest(b"{}", tags="v1"), "tags must be a list of .*, not one text"),
        (lambda store: store.repository("a").put_manifest(b"{}", tags=["v1", 2]), r"tags\[1\] must be text, not int"),
        (lambda store: store.repository("a").tag("v1", 7), "digest must be text or a Descriptor, not int"),
        (lambda store: store.repository("a").tag("v1", "v2", expected=7), "expected must be text or a Descriptor"),
        (lambda store: store.export("out", "a"), "references must be a list of texts, not one text"),
        (lambda store: store.export(7), "destination must be text, a path or a binary file, not int"),
        (lambda store: store.scrub(progress=7), "progress must be a callable, not int"),
        (lambda store: store.lease(ttl=timedelta(1), reason=None), "reason must be text, not NoneType"),
        (lambda store: store.copy_to(7), "destination must be a Store, text or a path, not int"),
        (lambda store: Store.open(b"a"), "root must be text or a path, not bytes: os.fsdecode makes text of it"),
        (lambda store: Store.open(7), "root must be text or a path, not int"),
    ],
)  # fmt: skip
def test_the_error_says_what_the_argument_must_be_and_nothing_happens(store, act, said):
    store.repository("a").put_blob(b"x")
    with unchanged(store.root), pytest.raises(TypeError, match=f"^{said}"):
        act(store)


@checks_types
def takes(
    number: "int | None" = None,
    *,
    paths: "Iterable[str | os.PathLike[str]]" = (),  # noqa: F821
    labels: "Mapping[str, str] | None" = None,  # noqa: F821
    pair: "tuple[int, int]" = (1, 2),
) -> object:
    """Take."""
    return number, paths, labels, pair


@pytest.mark.parametrize(
    "arguments",
    [
        {"number": 7}, {"number": None}, {"paths": ["a", Path("b")]}, {"paths": iter([1])}, {"paths": {"a"}},
        {"paths": {"a": 1}.keys()}, {"labels": {}}, {"pair": (3, 4)},
    ],
)  # fmt: skip
def test_values_of_the_right_types_pass_through(arguments):
    assert takes(**arguments)
    for function, each in itertools.product([takes], arguments):
        assert each in checks_of(function)


@pytest.mark.parametrize(
    "arguments",
    [
        {"number": 7.0}, {"number": "7"}, {"paths": b"a"}, {"paths": {"a": 1}}, {"paths": ["a", 7]}, {"paths": 7},
        {"labels": [("a", "b")]}, {"pair": [1, 2]},
    ],
)  # fmt: skip
def test_values_of_other_types_do_not(arguments):
    [name] = arguments
    with pytest.raises(TypeError, match=f"^{name}"):
        takes(**arguments)


def test_arguments_by_position_are_checked_too_and_a_call_that_fits_no_signature_is_an_error_of_python():
    assert takes(7)[0] == 7
    with pytest.raises(TypeError, match=r"^number must be an int, not str"):
        takes("7")
    with pytest.raises(TypeError, match="unexpected keyword argument 'nothing'"):
        takes(nothing=7)


def test_a_function_keeps_its_name_its_text_and_its_signature():
    assert takes.__name__ == "takes"
    assert takes.__doc__ == "Take."
    assert list(inspect.signature(Store.gc).parameters)[:3] == ["self", "grace", "keep_untagged"]
    assert inspect.signature(Store.open).parameters["create"].default is True


def test_a_digest_is_text(repository):
    repository.put_blob(b"x")
    assert repository.stat_blob(Digest.of(b"x")).size == 1
