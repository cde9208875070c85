from __future__ import annotations

import os
import signal
import threading

import pytest

from tunesmith.engine.signals import STOPPING, StopFlag, listening


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_ends_at_once_what_does_not_look_for_it(number):
    before = signal.getsignal(number)
    flag = StopFlag()
    with pytest.raises(KeyboardInterrupt, match=number.name), listening(flag):
        send(number)
    assert flag.reason == number.name
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", STOPPING)
def test_whoever_is_patient_only_sees_the_flag(number):
    with listening(StopFlag()) as flag:
        with flag.patiently():
            send(number)
            assert flag.reason == number.name
        with pytest.raises(KeyboardInterrupt):
            send(number)


def test_a_second_ctrl_c_ends_and_a_second_sigterm_does_nothing():
    with listening(StopFlag()) as flag, flag.patiently():
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        send(signal.SIGUSR1)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
    assert flag.reason == "SIGTERM"


def test_what_a_finaliser_swallowed_is_remembered(monkeypatch):
    class Deaf:
        def __del__(self) -> None:
            send(signal.SIGTERM)

    dropped = []
    monkeypatch.setattr("sys.unraisablehook", dropped.append)
    with listening(StopFlag()) as flag:
        Deaf()
        assert len(dropped) == 1
        with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
            flag.end_if_asked()


def test_the_first_reason_stays():
    flag = StopFlag()
    assert not flag.is_set
    flag.end_if_asked()
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
