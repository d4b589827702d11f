"""JSON from strangers: what every client reads alike is read, the rest is refused, and quickly."""

import json
import sys
import time
import tracemalloc

import pytest
from anytext import texts
from hypothesis import given
from hypothesis import strategies as st

from ocistore.errors import ManifestInvalidError
from ocistore.oci import strictjson

MAXIMUM = 4 * 1024 * 1024

GOOD = {
    b"{}": {},
    b" [1, -2, 2.5, 1e3, true, false, null]\n": [1, -2, 2.5, 1000.0, True, False, None],
    b'{"a": {"a": 1}, "b": [{"a": 2}, {"a": 3}]}': {"a": {"a": 1}, "b": [{"a": 2}, {"a": 3}]},
    b'{"a": 1, "A": 2}': {"a": 1, "A": 2},
    '"é\U0001f600"'.encode(): "é\U0001f600",
    b'"\\ud83d\\ude00"': "\U0001f600",
    b'"\\\\ud800"': "\\ud800",
    b'"\\ud7ff\\ue000"': "\ud7ff\ue000",
    b"9223372036854775808": 2**63,
    b"9" * 64: int("9" * 64),
    b"[" * 64 + b"]" * 64: json.loads("[" * 64 + "]" * 64),
    b'{"a":' * 64 + b"1" + b"}" * 64: json.loads('{"a":' * 64 + "1" + "}" * 64),
    b"[" + b"[]," * 500 + b"[]]": [[]] * 501,
    b'["' + b"[{" * 500 + b'"]': ["[{" * 500],
    b'["' + b'\\"[\\\\' * 500 + b'"]': ['"[\\' * 500],
}
BAD = {
    b"": "not JSON",
    b" ": "not JSON",
    b"{": "not JSON",
    b"{}{}": "not JSON",
    b"{}\x00": "not JSON",
    b"{'a': 1}": "not JSON",
    b'{"a": 1,}': "not JSON",
    b'"a\nb"': "not JSON",
    b'"\\x41"': "not JSON",
    b"01": "not JSON",
    b"// a\n{}": "not JSON",
    b"\xef\xbb\xbf{}": "byte order mark",
    "{}".encode("utf-16"): "byte order mark",
    "{}".encode("utf-16-le"): "not JSON",
    "{}".encode("utf-16-be"): "not JSON",
    "{}".encode("utf-32-le"): "not JSON",
    b'"\xff"': "not UTF-8",
    b'"\xc0\xaf"': "not UTF-8",
    b'"\xed\xa0\x80"': "not UTF-8",
    b'{"a": 1, "a": 1}': "twice",
    b'{"a": 1, "b": 2, "\\u0061": 3}': "twice",
    b'[{"b": {"c": 1, "c": 2}}]': "twice",
    b"NaN": "NaN",
    b"[-Infinity]": "Infinity",
    b'{"size": Infinity}': "Infinity",
    b"1e999": "too large",
    b"-1e999": "too large",
    b"1" * 65: "a number has 65 characters",
    b"-" + b"1" * 64: "a number has 65 characters",
    b"1." + b"1" * 63: "a number has 65 characters",
    b'"\\ud800"': "surrogate",
    b'"\\uDc00"': "surrogate",
    b'"\\ude00\\ud83d"': "surrogate",
    b'{"\\ud800": 1}': "surrogate",
    b'[{"a": ["\\uDBFFx"]}]': "surrogate",
    b"[" * 65 + b"]" * 65: "nested",
    b'{"a":' * 65 + b"1" + b"}" * 65: "nested",
    b'[{"a":' * 33 + b"1" + b"}]" * 33: "nested",
    b'["]]]]]]]]",' + b"[" * 64 + b"]" * 65: "nested",
    b'["\\"]]]]]]]",' + b"[" * 64 + b"]" * 65: "nested",
}


@pytest.mark.parametrize("content", GOOD)
def test_what_all_clients_read_alike_is_read(content):
    assert strictjson.loads(content, maximum=MAXIMUM) == GOOD[content]


@pytest.mark.parametrize("content", BAD)
def test_what_they_do_not_is_refused_with_its_reason(content):
    with pytest.raises(ManifestInvalidError) as caught:
        strictjson.loads(content, maximum=MAXIMUM)
    assert BAD[content] in caught.value.reason


@pytest.mark.parametrize("value", [None, "{}", bytearray(b"{}"), memoryview(b"{}"), 5])
def test_only_bytes_are_read(value):
    with pytest.raises(ManifestInvalidError, match="is not bytes"):
        strictjson.loads(value, maximum=MAXIMUM)


def test_the_limit_on_bytes_holds_to_the_byte():
    assert strictjson.loads(b'"abc"', maximum=5) == "abc"
    with pytest.raises(ManifestInvalidError, match="at most 4"):
        strictjson.loads(b'"abc"', maximum=4)


BOMBS = {
    "unclosed brackets": b"[" * MAXIMUM,
    "a deep tower": b"[" * (MAXIMUM // 2) + b"]" * (MAXIMUM // 2),
    "towers after a closing too many": b"]" * 100 + b"[" * (MAXIMUM - 100),
    "objects in objects": b'{"a":' * (MAXIMUM // 5),
    "escaped quotes in an unclosed string": b"[[]," * 70 + b'"' + b'\\"' * (MAXIMUM // 2 - 1000),
    "backslashes": b"[[]," * 70 + b"\\" * (MAXIMUM - 1000),
    "one long integer": b"1" * MAXIMUM,
    "one long fraction": b"0." + b"1" * (MAXIMUM - 2),
    "half surrogates": b'["' + b"\\ud800" * (MAXIMUM // 6 - 1) + b'"]',
    "spaces": b" " * MAXIMUM,
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_in_bounded_time(name):
    started = time.perf_counter()
    with pytest.raises(ManifestInvalidError):
        strictjson.loads(BOMBS[name], maximum=MAXIMUM)
    # Each takes hundredths of a second; what is quadratic takes minutes.
    assert time.perf_counter() - started < 5


def test_long_numbers_are_refused_even_where_python_was_told_to_read_them():
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        with pytest.raises(ManifestInvalidError, match="a number has"):
            strictjson.loads(b"1" * 100_000, maximum=MAXIMUM)
    finally:
        sys.set_int_max_str_digits(limit)


documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts(), inner, max_size=5),
    max_leaves=100,
)


@given(documents, st.booleans(), st.sampled_from([None, 1]))
def test_what_json_writes_is_read_back(document, ascii_only, indent):
    content = json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode()
    assert strictjson.loads(content, maximum=MAXIMUM) == document


@given(st.text(alphabet='[]{}",:\\ 1aNe-.u8dD\n', max_size=200) | texts(), st.binary(max_size=3))
def test_any_bytes_are_json_or_a_manifest_error(text, tail):
    content = text.encode() + tail
    try:
        document = strictjson.loads(content, maximum=MAXIMUM)
    except ManifestInvalidError:
        return
    assert document == json.loads(content)


# --- a list that is read an element at a time -------------------------------------------------------------------------

LISTS = [
    *(b'{"a": 1, "list": [' + each + b'], "b": [2]}' for each in (b"", *GOOD, *BAD)),
    *(b'{"a": ' + each + b', "list": [1, 2]}' for each in (*GOOD, *BAD)),
    b'{"list": [1, 2], "list": [3]}',
    b'{"list": [1, 2], "a": 1, "a": 2}',
    b'{"list": {"list": [1]}}',
    b'{"list": null}',
    b'{"list": [1, 2,]}',
    b'{"list": [1 2]}',
    b'{"list": [1, 2]',
    b'{"list": [1, 2]}}',
    b'{"list": [1, 2],}',
    b'{"list" [1, 2]}',
    b'{"list": [,]}',
    b'{"\\u006cist": [1, {"x": "\\ud83d\\ude00"}]}',
    '{"list": ["\u00fc\u20ac\U0001f600", {"\u20ac": -1.5e3}, 12345678901234567890]}'.encode(),
    b'{"list": ["\xff"]}',
    b'{"list": [' + b" " * 100 + b"1" + b"\n" * 100 + b", 2]}" + b"\t" * 100,
    *GOOD,
    *BAD,
]


def read(content, at_once, monkeypatch):
    """What a document says whose list is read in pieces, put together again; or the error."""
    given = []

    def begin():
        given.clear()
        return given.append

    monkeypatch.setattr(strictjson, "_AT_ONCE", at_once)
    try:
        document = strictjson.loads_each(content, "list", begin, maximum=MAXIMUM)
    except ManifestInvalidError as error:
        return str(error)
    if isinstance(document, dict) and isinstance(document.get("list"), list):
        assert document["list"] == []
        document["list"] = given
    else:
        assert given == []
    return document


def at_once(content):
    try:
        return strictjson.loads(content, maximum=MAXIMUM)
    except ManifestInvalidError as error:
        return str(error)


@pytest.mark.parametrize("size", [1, 2, 7, 16 * 1024])
@pytest.mark.parametrize("content", LISTS)
def test_in_pieces_the_same_is_read_and_refused(content, size, monkeypatch):
    assert read(content, size, monkeypatch) == at_once(content)


@given(
    st.fixed_dictionaries({"list": st.lists(documents, max_size=5)}, optional={"a": documents, "\u00fc": documents}),
    st.booleans(),
    st.sampled_from([None, 1]),
    st.integers(1, 40),
    st.none() | st.integers(0, 200),
)
def test_in_pieces_of_any_size_the_same_is_read(document, ascii_only, indent, size, end):
    content = json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode()[:end]
    with pytest.MonkeyPatch.context() as patch:
        found = read(content, size, patch)
    assert found == at_once(content)


@pytest.mark.parametrize(
    "inside",
    [
        b'{"a": "b"}',
        b'{"a": "' + b"x" * 100_000 + b'"}',
        *(pytest.param(each, marks=pytest.mark.slow) for each in (b"{}", b'""')),
    ],
)
def test_in_pieces_a_list_takes_no_memory(inside):
    content = b'{"list": [' + b", ".join([inside] * max(4, 200_000 // len(inside))) + b"]}"
    tracemalloc.start()
    try:
        strictjson.loads_each(content, "list", lambda: lambda _: None, maximum=len(content))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
