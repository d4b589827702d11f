"""Configs of images made of values: their bytes, what they say, what is refused."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from ocistore import (
    Descriptor,
    Digest,
    ImageConfig,
    InvalidDigestError,
    InvalidNameError,
    Manifest,
    ManifestInvalidError,
    Platform,
    mediatypes,
)

LAYER = Digest.of(b"layer")


def test_a_config_has_the_keys_in_the_order_of_the_specification_and_no_spaces():
    built = ImageConfig.build(
        platform="linux/arm64/v8",
        diff_ids=[LAYER],
        entrypoint=["/bin/app"],
        command=["--help"],
        environment={"PATH": "/bin", "A": "ü"},
        working_directory="/work",
        user="app:app",
        labels={"b": "2", "a": "1"},
        created=datetime(2026, 1, 2, 5, 4, 5, tzinfo=timezone(timedelta(hours=2))),
    )
    assert built.content.decode() == (
        '{"created":"2026-01-02T03:04:05Z","architecture":"arm64","os":"linux","variant":"v8","config":{"User":"app:app",'
        '"Env":["PATH=/bin","A=ü"],"Entrypoint":["/bin/app"],"Cmd":["--help"],"WorkingDir":"/work",'
        f'"Labels":{{"a":"1","b":"2"}}}},"rootfs":{{"type":"layers","diff_ids":["{LAYER}"]}}}}'
    )
    assert (built.platform, built.diff_ids) == (Platform("arm64", "linux", variant="v8"), (LAYER,))
    assert (built.entrypoint, built.command, built.environment) == (
        ("/bin/app",), ("--help",), ("PATH=/bin", "A=ü"),
    )  # fmt: skip
    assert (built.working_directory, built.user, built.labels) == ("/work", "app:app", {"a": "1", "b": "2"})
    assert built.created == "2026-01-02T03:04:05Z"
    assert built.descriptor == Descriptor.of(built.content, mediatypes.OCI_CONFIG)


def test_the_least_config_says_what_the_image_runs_on():
    built = ImageConfig.build(platform=Platform("amd64", "windows", os_version="10.0", os_features=("win32k",)))
    assert json.loads(built.content) == {
        "architecture": "amd64", "os": "windows", "os.version": "10.0", "os.features": ["win32k"], "config": {},
        "rootfs": {"type": "layers", "diff_ids": []},
    }  # fmt: skip


def test_the_environment_of_another_config_can_be_taken_over():
    first = ImageConfig.build(platform="linux/amd64", environment={"A": "1"})
    second = ImageConfig.build(platform="linux/amd64", environment=[*first.environment, "B=2"])
    assert second.environment == ("A=1", "B=2")


def test_a_config_is_stored_and_referred_to(repository):
    config = ImageConfig.build(platform="linux/amd64")
    assert repository.put_blob(config) == config.descriptor
    assert repository.put_blob(config, media_type="a/b").media_type == "a/b"
    repository.put_manifest(Manifest.build(config=config), tags=["v1"])
    with repository.open_blob(repository.get_manifest("v1").config) as blob:
        assert ImageConfig.parse(blob.read()) == config


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"platform": "linux"}, InvalidNameError, "platform"),
        ({"platform": 7}, TypeError, "platform must be a Platform or text, not int"),
        ({"diff_ids": ["sha256:short"]}, InvalidDigestError, "short"),
        ({"diff_ids": str(LAYER)}, TypeError, "diff_ids must be a list of texts, not one text"),
        ({"entrypoint": "/bin/app"}, TypeError, "entrypoint must be a list of texts, not one text"),
        ({"command": [1]}, TypeError, r"command\[0\] must be text, not int"),
        ({"environment": "A=1"}, TypeError, "environment must be a mapping .*, not one text"),
        ({"environment": [1]}, TypeError, r"environment\[0\] must be text, not int"),
        ({"environment": ["A"]}, ValueError, "'A' is not NAME=VALUE"),
        ({"environment": {"": "1"}}, ValueError, "'=1' is not NAME=VALUE"),
        ({"working_directory": 1}, TypeError, "working_directory must be text, not int"),
        ({"user": 1}, TypeError, "user must be text, not int"),
        ({"labels": {"a": 1}}, ManifestInvalidError, "config.Labels: "),
        ({"labels": ["a"]}, TypeError, "labels must be a mapping of text to text, not list"),
        ({"created": "2026-01-02"}, TypeError, "created must be a datetime"),
        ({"created": datetime(2026, 1, 2)}, ValueError, "time zone"),  # noqa: DTZ001
        ({"labels": {"a": "\ud800"}}, ManifestInvalidError, "surrogate"),
        ({"labels": {"a": "x" * 5_000_000}}, ManifestInvalidError, "bytes"),
    ],
)
def test_what_no_config_can_say_is_refused(options, error, said):
    with pytest.raises(error, match=said):
        ImageConfig.build(**{"platform": "linux/amd64"} | options)


def test_a_time_is_written_in_utc_with_all_that_is_known_of_it():
    built = ImageConfig.build(platform="linux/amd64", created=datetime(2026, 1, 2, 3, 4, 5, 600_000, tzinfo=UTC))
    assert built.created == "2026-01-02T03:04:05.600000Z"


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"os": 1}, "os"),
        ({"config": []}, "config"),
        ({"rootfs": {"diff_ids": ["x"]}}, "rootfs.diff_ids"),
        ({"config": {"Labels": {"a": 1}}}, "config.Labels"),
    ],
)
def test_a_document_that_is_no_config_is_not_made_one(document, path):
    with pytest.raises(ManifestInvalidError) as caught:
        ImageConfig.from_json(document)
    assert caught.value.path.startswith(path)
