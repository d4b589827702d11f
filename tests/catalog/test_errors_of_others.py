"""What a signal handler raises in the middle of the catalog's work comes out as it was raised, whatever its class."""

import errno
import os

import pytest
from instructions import PACKAGE, Interrupted, anywhere

from ocistore import OCIStoreError, Store

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


BELOW = os.path.join(PACKAGE, "catalog")


def _push_and_open_again(root):
    with Store.open(root) as store:
        store.repository("app").put_blob(b"content")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "theirs"),
        FileNotFoundError(errno.ENOENT, "theirs"),
        PermissionError(errno.EACCES, "theirs"),
        BlockingIOError(errno.EAGAIN, "theirs"),
        TimeoutError("theirs"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("step", [251, pytest.param(61, marks=pytest.mark.slow)])
def test_an_error_of_a_signal_handlers_is_never_made_one_of_ours(tmp_path, error, step):
    root = tmp_path / "store"
    _push_and_open_again(root)
    after, raised = 1, 0
    while True:
        signal = Interrupted(after, anywhere, error=error, below=BELOW)
        error.__traceback__ = error.__cause__ = error.__context__ = None
        try:
            with signal:
                _push_and_open_again(root)
            came = None
        except BaseException as caught:
            came = caught
        assert not isinstance(came, OCIStoreError), (after, came)
        raised += came is error
        if not signal.reached:
            break
        after += step
    assert raised > after / step * 0.8
    _push_and_open_again(root)
