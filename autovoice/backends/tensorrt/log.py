"""A tool's messages while it works: kept, and printed to the step's log."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

#: warnings that mean the engine is not the one that was asked for
_FATAL = ("not self-consistent", "zeroIsPlaceHolder")


class Log:
    """`logger` is handed to the tool; `messages` is everything it said, (severity, text), worst severity 0.

    Objects that the tool made refer to their logger: keep this alive as long as they are.
    """

    def __init__(self, module: ModuleType) -> None:
        log, severity = self, module.ILogger.Severity

        class Logger(module.ILogger):  # type: ignore[name-defined]
            def __init__(self) -> None:
                module.ILogger.__init__(self)

            def log(self, level: Any, text: str) -> None:
                log.take(int(level), str(text))

        self._names = {int(getattr(severity, n)): n for n in ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")}
        self._error = int(severity.ERROR)
        self._warning = int(severity.WARNING)
        self.messages: list[tuple[int, str]] = []
        self.logger = Logger()

    def take(self, level: int, text: str) -> None:
        if level <= self._warning + 1:  # verbose ones are tens of thousands
            self.messages.append((level, text))
        if level <= self._warning:
            print(f"{self._names[level]}: {text}", file=sys.stderr)

    @property
    def errors(self) -> list[str]:
        return [text for level, text in self.messages if level <= self._error]

    @property
    def fatal_warnings(self) -> list[str]:
        """Warnings about an engine that would be built all the same, and wrong."""
        return [t for level, t in self.messages if level == self._warning and any(f in t for f in _FATAL)]

    def text(self) -> str:
        return "".join(f"{self._names[level]}: {text}\n" for level, text in self.messages)

    def why(self) -> str:
        """The first error, which the others follow from, on one line."""
        found = self.errors or [t for _, t in self.messages[-1:]] or ["it gave no reason"]
        return " ".join(found[0].split())[:400]
