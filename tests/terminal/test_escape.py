"""Nothing in a name reaches the terminal as more than its own letters."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autovoice.command.builds import BuildFailed
from autovoice.errors import AutovoiceError, ConfigError, Fault, FeedError
from autovoice.execution.progress import LiveListener, PlainListener
from autovoice.terminal.escape import escaped, guarded, say
from autovoice.terminal.table import table

#: what it is, how it is shown
HOSTILE = {
    "escape": ("\x1b[31mred", "\\x1b[31mred"),
    "title": ("\x1b]0;x\x07", "\\x1b]0;x\\x07"),
    "C1": ("\x9b2J", "\\x9b2J"),
    "backspace": ("a\x08b", "a\\x08b"),
    "return": ("a\rb", "a\\rb"),
    "line": ("a\nerror: b", "a\\nerror: b"),
    "separators": ("a\u2028b\x85c", "a\\u2028b\\x85c"),
    "direction": ("\u202egnp.exe\u2066", "\\u202egnp.exe\\u2066"),
    "no width": ("a\u200bb\ufeff\u2060", "a\\u200bb\\ufeff\\u2060"),
    "surrogate": ("caf\udce9", "caf\\udce9"),
    "tag": ("a\U000e0041", "a\\U000e0041"),
    "null": ("a\0", "a\\x00"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_would_steer_a_terminal_is_shown(name: str) -> None:
    text, shown = HOSTILE[name]
    assert escaped(text) == shown
    assert escaped(shown) == shown  # escaped twice is escaped once


@pytest.mark.parametrize(
    "text", ["mel_output", "/encoder/Add_0", "歌声.wav", "naïve – 3 … 4 ≥ 5 dB → ok", "a\\b", "[red]", "🎤"]
)
def test_what_prints_stays_as_it_is(text: str) -> None:
    assert escaped(text) == text


def test_a_name_makes_no_line_of_an_error() -> None:
    error = FeedError("there is no input 'x\nerror: all is well'", "available: a\n  rm -rf /, \x1b[2J")
    assert str(error).splitlines() == [
        "there is no input 'x\\nerror: all is well'",
        "  available: a\\n  rm -rf /, \\x1b[2J",
    ]
    assert error.fact == "there is no input 'x\nerror: all is well'"  # as it is, for whoever looks at it


def test_several_faults_keep_their_lines() -> None:
    faults = [Fault("component.a\nb", "is \x1b wrong", "mend it"), Fault("c", "is wrong", "")]
    assert str(ConfigError(faults)).splitlines() == ["component.a\\nb: is \\x1b wrong", "  mend it", "c: is wrong"]
    same = [Fault(where, "is wrong", "mend it") for where in ("a", "b")]
    assert str(ConfigError(same)) == "a, b: is wrong\n  mend it"
    failed = BuildFailed([("a.build: no\nthing", "try\nagain"), ("1 of 2 steps failed", "")])
    assert str(failed).splitlines() == ["a.build: no\\nthing", "  try\\nagain", "1 of 2 steps failed"]


@pytest.mark.parametrize("error", [ConfigError([Fault("a", "b", "c")]), BuildFailed([("a", "b")]), FeedError("a", "b")])
def test_an_error_comes_from_a_worker_as_it_was(error: AutovoiceError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (type(error), str(error))


def test_a_name_makes_no_row_of_a_table() -> None:
    assert table(["name", "x"], [["a\nb", "1"], ["\x1b[2K", "2"]]) == " name     x\n a\\nb     1\n \\x1b[2K  2"


def test_say_takes_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\nb", "c")
    say("d\x1b", error=True)
    assert capsys.readouterr() == ("a\\nb\nc\n", "d\\x1b\n")


# -- whatever is printed ---------------------------------------------------------------------------


def test_what_others_print_is_escaped_too(capsys: pytest.CaptureFixture[str]) -> None:
    with guarded():
        print("two\nlines\tand \x1b[31mred")
        sys.stderr.writelines(["caf\udce9\n"])
    print("\x1b after")
    assert capsys.readouterr() == ("two\nlines\tand \\x1b[31mred\n\x1b after\n", "caf\\udce9\n")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_no_encoding_makes_an_error(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding, errors="strict"))
    with guarded():
        print("3 … 4 → \udce9é", flush=True)
        sys.stdout.behind.write("→\n")  # type: ignore[attr-defined]
        sys.stdout.flush()
    shown = raw.getvalue().decode(encoding)
    assert shown == ("3 … 4 → \\udce9é\n→\n" if encoding == "utf-8" else shown)
    assert "\\udce9" in shown
    assert "\\u2192" in shown or encoding == "utf-8"


@pytest.mark.parametrize("locale", [{"LC_ALL": "POSIX"}, {"PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0"}])
def test_the_command_line_in_a_bare_locale(locale: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "autovoice", "task=plan\x1b[31m\u202e"]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, **locale}, capture_output=True)
    assert done.returncode == 1, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"\x1b" not in done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == 2


# -- progress --------------------------------------------------------------------------------------


def planned(step: str) -> Any:
    return SimpleNamespace(step=SimpleNamespace(id=step), last_seconds=0.0)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("kind", [PlainListener, LiveListener])
def test_a_step_is_called_what_it_is(kind: type[PlainListener]) -> None:
    out = Terminal()
    shown = kind(2, out)
    try:
        shown.started(planned("[red]:smile:\x1b[2J.build"))
        shown.finished(planned("[red]:smile:\x1b[2J.build"), SimpleNamespace(seconds=1.0))  # type: ignore[arg-type]
        shown.failed(planned("a\nb"), FeedError("no"))
        shown.note("c\x9bd")
    finally:
        shown.close()
    assert "[red]:smile:\\x1b[2J.build" in out.getvalue()
    assert "a\\nb " in out.getvalue()
    assert " note: c\\x9bd" in out.getvalue()
    assert "\x1b[2J" not in out.getvalue()
