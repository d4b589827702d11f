"""How sizes and strange text are printed."""

import pytest

from ocistore.cli.printing import printable, readable_size


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (1024**3, "1.0 GiB"),
        (2**63 - 1, "8.0 EiB"),
        (1024**7, "1024.0 EiB"),
    ],
)
def test_sizes_are_readable(size, text):
    assert readable_size(size) == text


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("plain tést", "plain tést"),
        ("a\nb", "a\\nb"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\u202e", "\\u202e"),
        ("\udcff", "\\udcff"),
    ],
)
def test_text_that_a_terminal_would_obey_is_spelled_out(text, printed):
    assert printable(text) == printed
