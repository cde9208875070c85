from __future__ import annotations

import os
import signal
import threading

import pytest

from tunesmith.engine.signals import StopFlag, listening


def test_the_first_signal_asks_and_the_second_ends():
    with listening(StopFlag()) as flag:
        os.kill(os.getpid(), signal.SIGINT)
        assert flag.is_set
        assert flag.reason == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_the_first_reason_stays():
    flag = StopFlag()
    assert not flag.is_set
    flag.request("SIGTERM")
    flag.request("SIGINT")
    assert flag.reason == "SIGTERM"


def test_outside_of_the_main_thread_nothing_is_installed():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def body() -> None:
        with listening(StopFlag()):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert seen == [before]
