"""Choosing by name: what is meant, and what it is called afterwards."""

import pytest

from ocistore import InvalidNameError
from ocistore.oci.selector import Selector

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "name", "meant"),
    [
        ("app", ("app", "v1", DIGEST), True),
        ("app", ("app", None, DIGEST), False),
        ("app", ("other", "v1", DIGEST), False),
        ("app:v1", ("app", "v1", DIGEST), True),
        ("app:v1", ("app", "v10", DIGEST), False),
        ("app:v*", ("app", "v10", DIGEST), True),
        ("app:v[0-9]", ("app", "v7", DIGEST), True),
        ("app:v?", ("app", "v10", DIGEST), False),
        ("app:V*", ("app", "v1", DIGEST), False),
        (f"app@{DIGEST}", ("app", None, DIGEST), True),
        (f"app@{DIGEST}", ("app", "v1", DIGEST), True),
        (f"app:v2@{DIGEST}", ("app", "v1", DIGEST), False),
        (f"app@{DIGEST}", ("app", "v1", "sha256:" + "1" * 64), False),
    ],
)
def test_what_is_meant(text, name, meant):
    assert Selector.parse(text).matches(*name) is meant


@pytest.mark.parametrize(
    ("text", "name", "called"),
    [
        ("app", ("app", "v1"), ("app", "v1")),
        ("app=mirror/app", ("app", "v1"), ("mirror/app", "v1")),
        ("app:v1=mirror/app", ("app", "v1"), ("mirror/app", "v1")),
        ("app:v1=mirror/app:prod", ("app", "v1"), ("mirror/app", "prod")),
        (f"app@{DIGEST}=mirror/app:prod", ("app", None), ("mirror/app", "prod")),
        ("app:v*=mirror", ("app", "v1"), ("mirror", "v1")),
    ],
)
def test_what_it_is_called(text, name, called):
    assert Selector.parse(text).renamed(*name) == called


@pytest.mark.parametrize(
    "text",
    [
        "",
        "App",
        "app:",
        "app:v 1",
        "app:v1=",
        "app:v1=B",
        "app:v*=b:v1",
        "app=b:v1",
        f"app:v*@{DIGEST}",
        "app:v1=b@x",
        "app:v1=b:c=d",
        None,
    ],
)
def test_what_is_no_selector_is_refused(text):
    with pytest.raises(InvalidNameError):
        Selector.parse(text)
