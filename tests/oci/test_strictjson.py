"""JSON from strangers: what every client reads alike is read, the rest is refused, and quickly."""

import json
import sys
import time

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
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
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
