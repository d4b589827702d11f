"""Any text, for hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

CHARACTERS = st.characters(exclude_categories=["Cs"])
"""All that can be encoded as UTF-8. It is what strategies of text take by default, too, but those find it out character
by character, which takes each process three seconds."""


def texts(*, max_size: int | None = None) -> st.SearchStrategy[str]:
    """Any text, of so many characters at most."""
    return st.text(CHARACTERS, max_size=max_size)
