"""Every public value and report as JSON, and back; and what is refused on the way."""

import dataclasses
import json
import re
import types
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ocistore
import ocistore.artifacts
import ocistore.images
from ocistore import (
    Descriptor,
    Digest,
    Explanation,
    ImageConfig,
    Index,
    Manifest,
    ManifestInvalidError,
    Platform,
    Reference,
    RepositoryExplanation,
    Selector,
    TagEvent,
    mediatypes,
)
from ocistore.images import ImageFile
from ocistore.oci.jsonvalue import JSONValue

VALUES = {
    name: value
    for module in (ocistore, ocistore.artifacts, ocistore.images)
    for name in module.__all__
    if isinstance(value := getattr(module, name), type)
    and dataclasses.is_dataclass(value)
    and not issubclass(value, Exception)
}

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
DIGESTS = st.binary(max_size=3).map(Digest.of)
PLATFORMS = st.builds(Platform, TEXTS, TEXTS, TEXTS, st.lists(TEXTS, max_size=2).map(tuple), TEXTS)
TYPES = st.sampled_from([mediatypes.OCI_LAYER, "a/b"])
DESCRIPTORS = st.builds(
    lambda content, kind, embed, platform, annotations: Descriptor.of(content, kind, embed=embed).replace(
        platform=platform, annotations=annotations
    ),
    st.binary(max_size=3),
    TYPES,
    st.booleans(),
    st.none() | PLATFORMS,
    st.dictionaries(TEXTS, TEXTS, max_size=2),
)
MANIFESTS = st.builds(
    lambda config, layers, annotations: Manifest.build(config=config, layers=layers, annotations=annotations),
    DESCRIPTORS,
    st.lists(DESCRIPTORS, max_size=2),
    st.dictionaries(TEXTS, TEXTS, max_size=2),
)
NAMES = st.from_regex(r"[a-z0-9]{1,5}", fullmatch=True)
PLAIN = {
    str: TEXTS,
    int: st.integers(0, 2**63),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    bytes: st.binary(max_size=5),
    type(None): st.none(),
    Path: TEXTS.filter(lambda text: "\0" not in text).map(Path),
    Digest: DIGESTS,
    datetime: st.datetimes(timezones=st.just(UTC)),
    timedelta: st.timedeltas(timedelta(0), timedelta(days=9999)),
    Descriptor: DESCRIPTORS,
    Platform: PLATFORMS,
    Manifest: MANIFESTS,
    Index: st.builds(lambda children: Index.build(manifests=children), st.lists(DESCRIPTORS, max_size=2)),
    ImageConfig: st.builds(
        lambda platform, texts, labels: ImageConfig.build(platform=platform, command=texts, labels=labels),
        PLATFORMS,
        st.lists(TEXTS, max_size=2),
        st.dictionaries(TEXTS, TEXTS, max_size=2),
    ),
    Reference: st.builds(Reference, NAMES, st.none() | NAMES, st.none() | DIGESTS),
    Selector: st.builds(Selector, NAMES, st.none() | NAMES, st.none() | DIGESTS, st.none() | NAMES),
    ImageFile: st.builds(
        ImageFile, TEXTS, st.just("file"), st.integers(0), st.integers(0, 0o7777), st.integers(-(2**40), 2**60),
        st.integers(0), st.integers(0), TEXTS, DESCRIPTORS,
    ),
}  # fmt: skip


def values(hint):
    """Anything of a type that a field may have."""
    if hint in PLAIN:
        return PLAIN[hint]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return st.one_of(*map(values, arguments))
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple and arguments[-1] is not ...:
        return st.tuples(*map(values, arguments))
    if origin in (tuple, list):
        return st.lists(values(arguments[0]), max_size=3).map(origin)
    if origin in (Mapping, dict):
        return st.dictionaries(values(arguments[0]), values(arguments[1]), max_size=3)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from(hint)
    hints = get_type_hints(hint)
    names = hint._fields if issubclass(hint, tuple) else [field.name for field in dataclasses.fields(hint)]
    return st.builds(hint, **{name: values(hints[name]) for name in names})


@pytest.mark.parametrize("kind", VALUES.values(), ids=VALUES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_what_is_written_as_json_is_read_back_the_same(kind, data):
    value = data.draw(values(kind))
    document = value.to_json()
    assert kind.from_json(json.loads(json.dumps(document, allow_nan=False))) == value
    assert kind.from_json(document).to_json() == document


@pytest.mark.parametrize("kind", [kind for kind in VALUES.values() if issubclass(kind, JSONValue)])
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_the_keys_are_in_camel_case_and_whatever_is_none_is_null(kind, data):
    value = data.draw(values(kind))
    document = value.to_json()
    assert [key for key in document if not re.fullmatch("[a-z]+([A-Z][a-z]*)*", key)] == []
    assert len(document) >= len(dataclasses.fields(kind)) - 1  # a file of an image does not say where its bytes are


# --- each kind of field -----------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    first_name: str
    second: int = 2


class Colour(Enum):
    RED = "red"


@dataclasses.dataclass(frozen=True)
class Everything(JSONValue):
    name_of_it: str
    at: datetime
    grace: timedelta
    longest: timedelta | None = None
    ratio: float = 1.0
    where: Path = Path("/")
    content: bytes = b""
    pairs: tuple[Pair, ...] = ()
    two: tuple[int, str] = (1, "a")
    sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    level: Literal["low", "high"] = "low"
    colour: Colour = Colour.RED
    either: int | str = 0
    anything: Any = None


WHOLE = Everything(
    "x",
    datetime(2026, 1, 2, 3, 4, 5, 600_000, timezone(timedelta(hours=2))),
    timedelta(hours=1, milliseconds=500),
    content=b"{}",
    pairs=(Pair("a"),),
    sizes={"a": 1},
    either="b",
)
DOCUMENT = {
    "nameOfIt": "x",
    "at": "2026-01-02T01:04:05.600000Z",
    "graceSeconds": 3600.5,
    "longestSeconds": None,
    "ratio": 1.0,
    "where": "/",
    "content": "e30=",
    "pairs": [{"firstName": "a", "second": 2}],
    "two": [1, "a"],
    "sizes": {"a": 1},
    "level": "low",
    "colour": "red",
    "either": "b",
    "anything": None,
}


def test_each_kind_of_field_has_one_form():
    assert WHOLE.to_json() == DOCUMENT
    assert Everything.from_json(DOCUMENT) == WHOLE
    assert dataclasses.replace(WHOLE, longest=timedelta(days=1)).to_json()["longestSeconds"] == 86_400


def test_what_has_a_default_may_be_missing():
    least = {"nameOfIt": "x", "at": "2026-01-02T01:04:05Z", "graceSeconds": 1}
    assert Everything.from_json(least) == Everything(
        "x", datetime(2026, 1, 2, 1, 4, 5, tzinfo=UTC), timedelta(seconds=1)
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"nameOfIt": 1}, "^nameOfIt: 1 is not text"),
        ({"nameOfIt": None}, "^nameOfIt: None is not text"),
        ({"at": "yesterday"}, "^at: 'yesterday' is not a time"),
        ({"at": "2026-01-02T01:04:05"}, "is not a time"),
        ({"at": 0}, "^at: 0 is not text"),
        ({"graceSeconds": "1h"}, "^graceSeconds: '1h' is not a number"),
        ({"graceSeconds": True}, "is not a number"),
        ({"graceSeconds": 1e300}, "is not a duration"),
        ({"content": "e30"}, "is not base64"),
        ({"pairs": {}}, "^pairs: {} is not a list"),
        ({"pairs": [{"firstName": "a"}, {"second": 1}]}, r"^pairs\[1\]: Pair needs firstName"),
        ({"pairs": [{"firstName": "a", "third": 1}]}, r"^pairs\[0\]: Pair has no 'third'"),
        ({"pairs": [7]}, r"^pairs\[0\]: 7 is not an object"),
        ({"two": [1]}, "is not a list of 2"),
        ({"two": [1, 2]}, r"^two\[1\]: 2 is not text"),
        ({"sizes": {"a": 1.5}}, "^sizes.a: 1.5 is not a whole number"),
        ({"sizes": []}, "is not an object"),
        ({"level": "middle"}, "is not one of low, high"),
        ({"colour": "blue"}, "is not a Colour"),
        ({"either": None}, "is not a whole number"),
        ({"name_of_it": "x"}, "has no 'name_of_it'"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(change, said):
    with pytest.raises(ValueError, match=said):
        Everything.from_json(DOCUMENT | change)


@pytest.mark.parametrize("value", [None, [], "text", 7])
@pytest.mark.parametrize("kind", VALUES.values(), ids=VALUES)
def test_what_is_no_object_is_no_value(kind, value):
    with pytest.raises((ValueError, ManifestInvalidError), match="is not an object"):
        kind.from_json(value)


@pytest.mark.parametrize("kind", VALUES.values(), ids=VALUES)
def test_a_value_in_another_one_says_where_it_is_wrong(kind):
    for value in (7, {"os": 7}):
        with pytest.raises((ValueError, ManifestInvalidError), match=r"^(invalid manifest: )?values\[2\]"):
            kind.from_json(value, path="values[2]")


def test_a_report_in_a_report_says_where_it_is_wrong():
    digest = Digest.of(b"")
    document = Explanation(digest, (RepositoryExplanation("a", (), None), RepositoryExplanation("b", ("x",), None)))
    with pytest.raises(ValueError, match=r"^repositories\[1\].keptBy\[0\]: 7 is not text"):
        Explanation.from_json(json.loads(json.dumps(document.to_json()).replace('"x"', "7")))
    event = TagEvent(1, "v1", None, digest, datetime(2026, 1, 2, tzinfo=UTC), "me")
    with pytest.raises(ValueError, match=r"^new: .* is not a digest"):
        TagEvent.from_json(event.to_json() | {"new": "sha256:short"})
    assert event.to_json() == {
        "id": 1, "tag": "v1", "old": None, "new": digest, "at": "2026-01-02T00:00:00Z", "actor": "me",
    }  # fmt: skip
