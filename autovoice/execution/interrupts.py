"""Ctrl-C and SIGTERM: while there is nothing to clean up they end the process on the spot, later they raise.

An exception may come anywhere, and in the middle of an import or of a destructor it does no good.
"""

from __future__ import annotations

import _signal as signal  # `signal` itself makes enumerations of it, which takes longer than all of this
import os
import sys

TYPE_CHECKING = False  # `typing` takes longer to import than all else before signals are caught
if TYPE_CHECKING:
    from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
#: where an exception that could not be raised is tried once more
_SECONDS = 0.05


class Terminated(KeyboardInterrupt):
    """SIGTERM: whatever cleans up after Ctrl-C does so here too."""


def end_at_once() -> None:
    """From now on end the process by a signal, unless whoever started it chose otherwise."""
    for number in _SIGNALS:
        if signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL):
            signal.signal(number, _end)


def raise_instead() -> None:
    """From now on raise KeyboardInterrupt, or Terminated: there may be something to clean up."""
    for number in _SIGNALS:
        if signal.getsignal(number) is _end:
            signal.signal(number, _raise)
    sys.unraisablehook = _unraisable


def ignore() -> None:
    """From now on neither ends what is under way."""
    for number in _SIGNALS:
        if signal.getsignal(number) in (_end, _raise):
            signal.signal(number, signal.SIG_IGN)


def text_and_code(error: KeyboardInterrupt) -> tuple[str, int]:
    """What to say and to exit with."""
    return _message(signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)


def _message(number: int) -> tuple[str, int]:
    what = "terminated" if number == signal.SIGTERM else "interrupted"
    return f"\n{what}; finished steps are kept, nothing is half-written", 128 + number


def _end(number: int, _: Any) -> None:
    text, code = _message(number)
    os.write(2, f"{text}\n".encode())
    os._exit(code)


def _raise(number: int, _: Any) -> None:
    for one in _SIGNALS:
        signal.signal(one, signal.SIG_IGN)  # a second one may not interrupt the cleaning up
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


def _unraisable(given: Any) -> None:
    """An interrupt that came in a destructor, which swallows it, comes again a moment later."""
    if not isinstance(given.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(given)
        return
    import threading

    number = signal.SIGTERM if isinstance(given.exc_value, Terminated) else signal.SIGINT
    signal.signal(number, _raise)
    again = threading.Timer(_SECONDS, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()
