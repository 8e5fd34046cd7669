"""Text on its way to a terminal: what would steer it, or hide there, is shown as its escape.

Names of files, wires and entries come from anywhere. Control characters, those that change the direction of text,
those without a width and lone surrogates are written as in Python (`\\x1b`, `\\u202e`); a backslash stays as it is, so
that text which is escaped already does not change.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast


def escaped(text: str, keep: str = "") -> str:
    """The text with every character that does not print, apart from `keep`, as its escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)


def lines(*texts: str) -> str:
    """One line for each of these: a line break inside of one is escaped, so that no name makes a line of its own."""
    return "\n".join(escaped(text) for text in texts)


def say(*texts: str, error: bool = False) -> None:
    """Print each of these on a line of its own, at once."""
    print(lines(*texts), file=sys.stderr if error else sys.stdout, flush=True)


class ReaderGone(SystemExit):
    """Nobody reads what is printed any more: no error, so that nothing on the way takes it for one and reports it."""


@contextmanager
def guarded() -> Iterator[None]:
    """While inside, whatever is printed by whomever is escaped, and nothing fails for want of an encoding.

    Where the other end of a pipe is closed, printing raises ReaderGone.
    """
    before = sys.stdout, sys.stderr
    for stream in before:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # also for what draws on the stream itself
    sys.stdout, sys.stderr = (cast(TextIO, _Guarded(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def unguarded(stream: TextIO) -> TextIO:
    """The stream behind, for what draws on the terminal itself and escapes what it is given."""
    return stream.behind if isinstance(stream, _Guarded) else stream


class _Guarded:
    """A text stream that escapes what is written to it; the rest is the stream's own."""

    def __init__(self, behind: TextIO) -> None:
        self.behind: Any = behind

    def write(self, text: str) -> int:
        shown = escaped(text, keep="\n\t")
        try:
            self.behind.write(shown)
        except BrokenPipeError as e:
            raise ReaderGone(1) from e
        except UnicodeEncodeError:
            encoding = self.behind.encoding or "ascii"
            self.behind.write(shown.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def flush(self) -> None:
        try:
            self.behind.flush()
        except BrokenPipeError as e:
            raise ReaderGone(1) from e

    def writelines(self, texts: Any) -> None:
        for text in texts:
            self.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.behind, name)
