"""What a signal handler raises in the middle of the catalog's work comes out as it was raised, whatever its class."""

import errno
import sys

import pytest

from ocistore import OCIStoreError, Store

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class _Signal:
    """Raises at that many-th instruction of the catalog's code, where Python might handle a signal."""

    def __init__(self, error, after):
        self.error = error
        self.left = after

    def __call__(self, frame, event, argument):
        if "/ocistore/catalog/" not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.left -= 1
            if self.left == 0:
                raise self.error
        return self


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
def test_an_error_of_a_signal_handlers_is_never_made_one_of_ours(tmp_path, error):
    root = tmp_path / "store"
    _push_and_open_again(root)
    after, raised = 1, 0
    while True:
        signal = _Signal(error, after)
        error.__traceback__ = error.__cause__ = error.__context__ = None
        sys.settrace(signal)
        try:
            _push_and_open_again(root)
            came = None
        except BaseException as caught:
            came = caught
        finally:
            sys.settrace(None)
        assert not isinstance(came, OCIStoreError), (after, came)
        raised += came is error
        if signal.left > 0:
            break
        after += 61
    assert raised > after / 61 * 0.8
    _push_and_open_again(root)
