"""Time that passes when it is told to."""

import time


class Clock:
    """What ``time.time_ns`` says in this process, in milliseconds."""

    def __init__(self, monkeypatch):
        self.now = 1_800_000_000_000
        monkeypatch.setattr(time, "time_ns", lambda: self.now * 1_000_000)

    def pass_by(self, milliseconds):
        self.now += milliseconds
