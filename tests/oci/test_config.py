"""Configs of images, which anybody may have written."""

import json

import pytest
from anytext import texts
from hypothesis import given
from hypothesis import strategies as st

from ocistore import Digest, ImageConfig, ManifestInvalidError, Platform
from ocistore.oci.config import MAXIMUM_CONFIG_SIZE

ONE, TWO = Digest.of(b"one"), Digest.of(b"two")
FULL = {
    "os": "linux",
    "architecture": "arm64",
    "variant": "v8",
    "os.version": "6.1",
    "os.features": ["sse4"],
    "created": "2024-01-01T00:00:00Z",
    "rootfs": {"type": "layers", "diff_ids": [ONE, TWO]},
    "config": {
        "Entrypoint": ["/bin/sh"],
        "Cmd": ["-c", "true"],
        "Env": ["A=1"],
        "WorkingDir": "/work",
        "User": "1000:1000",
        "Labels": {"a": "b"},
    },
}
OUTSIDE = ("platform", "diff_ids", "created")
PARTS = (*OUTSIDE, "entrypoint", "command", "environment", "working_directory", "user", "labels")


def parsed(document, **options):
    return ImageConfig.parse(json.dumps(document).encode(), **options)


def test_a_config_says_how_an_image_is_run():
    config = parsed(FULL)
    assert config.platform == Platform("arm64", "linux", os_version="6.1", os_features=("sse4",), variant="v8")
    assert config.diff_ids == (ONE, TWO)
    assert config.created == "2024-01-01T00:00:00Z"
    assert (config.entrypoint, config.command, config.environment) == (("/bin/sh",), ("-c", "true"), ("A=1",))
    assert (config.working_directory, config.user, config.labels) == ("/work", "1000:1000", {"a": "b"})
    assert config.document == FULL
    assert json.loads(config.content) == FULL


def test_the_same_bytes_are_the_same_config():
    assert parsed(FULL) == parsed(FULL, name="other")
    assert hash(parsed(FULL)) == hash(parsed(FULL))
    assert parsed(FULL) != parsed({**FULL, "os": "windows"})


@pytest.mark.parametrize("nothing", [{}, {"config": None, "created": None, "os": None}, {"config": {}, "created": ""}])
def test_what_a_config_does_not_say_is_empty(nothing):
    config = parsed({"rootfs": {"diff_ids": None}, **nothing})
    assert (config.platform, config.created, config.user, config.working_directory) == (None, None, None, None)
    assert (config.diff_ids, config.entrypoint, config.command, config.environment) == ((), (), (), ())
    assert config.labels == {}


@pytest.mark.parametrize("half", [{"os": "linux"}, {"architecture": "arm64"}, {"os": "linux", "architecture": ""}])
def test_half_a_platform_is_none(half):
    assert parsed(half).platform is None


def test_a_command_may_be_one_text():
    assert parsed({"config": {"Cmd": "run this"}}).command == ("run this",)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'{"os": "a", "os": "b"}', b" " * MAXIMUM_CONFIG_SIZE + b"{}"]
)
def test_what_is_no_config_is_refused(content):
    with pytest.raises(ManifestInvalidError) as caught:
        ImageConfig.parse(content, name="'a.json'")
    assert caught.value.path == "'a.json'"


def test_a_config_may_have_as_many_bytes_as_the_limit():
    assert ImageConfig.parse(b" " * (MAXIMUM_CONFIG_SIZE - 2) + b"{}").platform is None


@pytest.mark.parametrize(
    ("part", "wrong", "path"),
    [
        ("platform", {"os": 1}, "os"),
        ("platform", {"os": "linux", "architecture": ["arm64"]}, "architecture"),
        ("platform", {"architecture": {}, "os": ""}, "architecture"),
        ("platform", {"os.features": "sse4"}, "os.features"),
        ("platform", {"OS": "windows"}, ""),
        ("diff_ids", {"rootfs": None}, "rootfs.diff_ids"),
        ("diff_ids", {"rootfs": []}, "rootfs"),
        ("diff_ids", {"rootfs": {"diff_ids": {}}}, "rootfs.diff_ids"),
        ("diff_ids", {"rootfs": {"diff_ids": ["no digest"]}}, "rootfs.diff_ids"),
        ("created", {"created": 1}, "created"),
        ("command", {"config": {"Cmd": [1]}}, "config.Cmd"),
        ("entrypoint", {"config": {"Entrypoint": {}}}, "config.Entrypoint"),
        ("environment", {"config": {"Env": 1}}, "config.Env"),
        ("user", {"config": {"User": 0}}, "config.User"),
        ("working_directory", {"config": {"WorkingDir": []}}, "config.WorkingDir"),
        ("labels", {"config": {"Labels": {"a": 1}}}, "config.Labels"),
        ("labels", {"config": []}, "config"),
    ],
)
def test_a_part_that_is_malformed_names_its_place_and_hides_no_other(part, wrong, path):
    config = parsed({**FULL, **wrong}, name="config")
    with pytest.raises(ManifestInvalidError) as caught:
        getattr(config, part)
    assert caught.value.path == (f"config: {path}" if path else "config")
    for other in set(OUTSIDE) - {part} if "config" in wrong else set(PARTS) - {part}:
        assert getattr(config, other) == getattr(parsed(FULL), other)


ONE_THING = st.none() | st.integers(0, 1) | st.sampled_from(["", "linux", ONE]) | texts(max_size=3)
ANYTHING = ONE_THING | st.lists(ONE_THING, max_size=2) | st.dictionaries(texts(max_size=3), ONE_THING, max_size=2)


def members(*keys, **inside):
    """Objects with some of these members."""
    return st.fixed_dictionaries({}, optional={**dict.fromkeys(keys, ANYTHING), **inside})


@given(
    members(
        *("os", "architecture", "variant", "os.version", "os.features", "created"),
        rootfs=ANYTHING | members("diff_ids"),
        config=ANYTHING | members("Entrypoint", "Cmd", "Env", "WorkingDir", "User", "Labels"),
    )
)
def test_whatever_a_config_holds_each_part_is_right_or_malformed(document):
    config = parsed(document)
    for part in PARTS:
        try:
            found = getattr(config, part)
        except ManifestInvalidError as error:
            assert error.path  # noqa: PT017
            continue
        assert isinstance(found, Platform | str | tuple | dict | None)
        if isinstance(found, tuple | dict):
            assert all(isinstance(each, str) for each in (found.values() if isinstance(found, dict) else found))


def test_a_digest_of_another_algorithm_may_be_one_to_others():
    for said, unknown in (("sha3-256:" + "0" * 64, True), ("sha256:no", False)):
        with pytest.raises(ManifestInvalidError) as caught:
            parsed({"rootfs": {"diff_ids": [ONE, said]}}).diff_ids  # noqa: B018
        assert caught.value.unknown == unknown
