"""Every error a user can cause, as a tree; each is two lines: the fact, then what to do about it.

AutovoiceError
├── ConfigError        the configuration is wrong: one or more faults, all reported at once
├── StepError          one step of a build failed
│   ├── ChangedError       what it read is not what its key was made of
│   ├── CheckpointError    weights could not be loaded into the module
│   ├── ExportError        the module could not become an ONNX file with the declared I/O
│   ├── CalibrationError   calibration data are missing, or do not fit the component
│   ├── LoweringError      the graph could not be rewritten to the precision asked
│   ├── BuildError         the backend refused the lowered model
│   ├── PrecisionError     the built file does not hold the precision asked
│   ├── GateError          parity against the reference is below its gate
│   └── WorkerError        the process that ran the step died
├── StoreError         the store cannot be read or written
├── ArtefactError      a file is not the one that was built (missing, truncated, edited)
│   ├── MismatchError      it was built for another GPU, or by another version of its tool
│   ├── TrustError         loading it would run code, and no one has said that this code may run
│   └── StaleError         it is to be built again before it is loaded
├── EngineError        a built engine failed while it ran
├── FeedError          tensors given to a built pipeline do not fit its specification
└── AudioError         a recording cannot be read, converted or written
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from autovoice.terminal.escape import lines


def two_lines(fact: str, fix: str = "") -> str:
    """A fact and what to do about it, whatever the names in them hold: a line break there makes no line."""
    return lines(fact, f"  {fix}") if fix else lines(fact)


_MEMORY = re.compile(r"out of memory|bad_alloc|\ballocat(?:e|ing|ion)\b", re.IGNORECASE)


class AutovoiceError(Exception):
    """A user's mistake or a machine's limit. `fact` says what and where, `fix` what is possible."""

    def __init__(self, fact: str, fix: str = "") -> None:
        super().__init__(fact, fix)
        self.fact = fact
        self.fix = fix

    def __str__(self) -> str:
        return two_lines(self.fact, self.fix)

    def __reduce__(self) -> tuple[Any, ...]:
        """Whatever a subclass is made of: one that a worker cannot send would end the worker."""
        return _received, (type(self), self.args, self.__dict__)


def _received(kind: type[AutovoiceError], args: tuple[Any, ...], state: Mapping[str, Any]) -> AutovoiceError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


@dataclass(frozen=True)
class Fault:
    """One thing wrong in the configuration: where it stands, the fact, and the way out."""

    where: str
    fact: str
    fix: str

    def __str__(self) -> str:
        return two_lines(f"{self.where}: {self.fact}", self.fix)


class SeveralErrors(AutovoiceError):
    """Several at once, each in two lines of its own; (fact, fix) of each."""

    def __init__(self, errors: Sequence[tuple[str, str]]) -> None:
        super().__init__("\n".join(two_lines(*e) for e in errors))
        self.errors = tuple(errors)

    def __str__(self) -> str:
        return self.fact


class ConfigError(SeveralErrors):
    """The configuration cannot be built as it stands; carries every fault found."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        # one choice made for all components gives each the same fault: say it once, naming them all
        places: dict[tuple[str, str], list[str]] = {}
        for f in faults:
            places.setdefault((f.fact, f.fix), []).append(f.where)
        super().__init__([(f"{', '.join(dict.fromkeys(p))}: {fact}", fix) for (fact, fix), p in places.items()])
        self.faults = tuple(faults)


class StepError(AutovoiceError):
    """One step failed."""


class ChangedError(StepError):
    """Something that a step read changed meanwhile, or was known as something else; `path` says where."""

    def __init__(self, fact: str, fix: str, path: str) -> None:
        super().__init__(fact, fix)
        self.path = path


class CheckpointError(StepError):
    """Weights could not be loaded."""


class ExportError(StepError):
    """No ONNX file with the declared inputs and outputs could be made."""


class CalibrationError(StepError):
    """Calibration data cannot be used."""


class LoweringError(StepError):
    """The graph could not be rewritten."""


class BuildError(StepError):
    """The backend refused the model."""


class PrecisionError(StepError):
    """Another precision was delivered than was asked."""


class GateError(StepError):
    """Parity is below its gate."""


class WorkerError(StepError):
    """The process that ran a step died; `crash` is the signal that its native code crashed by, "" where it did not."""

    def __init__(self, fact: str, fix: str = "", crash: str = "") -> None:
        super().__init__(fact, fix)
        self.crash = crash


class StoreError(AutovoiceError):
    """The store cannot be used."""


class ArtefactError(AutovoiceError):
    """A file is not the one that was built."""


class MismatchError(ArtefactError):
    """An engine does not belong to this machine."""


class TrustError(ArtefactError):
    """An engine names code, or holds it, that its reader has not allowed."""


class StaleError(ArtefactError):
    """An engine cannot be used as it is, and its policy asks for another build."""


class EngineError(AutovoiceError):
    """An engine failed while it ran."""


class FeedError(AutovoiceError):
    """A tensor does not fit."""


class AudioError(AutovoiceError):
    """A recording cannot be used."""


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or that it says nothing."""
    text = str(error).strip()
    return text.splitlines()[0] if text else "no message"


def wants_memory(error: BaseException) -> bool:
    """Whether a tool's own error is about memory that it did not get: few have a class for that."""
    return isinstance(error, MemoryError) or bool(_MEMORY.search(str(error)))


def brief(text: str, most: int = 200) -> str:
    """Text that a file gave, as a line may quote it: no control characters, and of a long one both ends."""
    cut = text if len(text) <= most else f"{text[: most // 2]}…{text[-most // 2 :]}"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cut)


def choices(names: Iterable[object]) -> str:
    """`a, b, c`, or `none` when there are none."""
    return ", ".join(sorted(str(n) for n in names)) or "none"


def nearest(name: str, names: Iterable[str]) -> str:
    """`did you mean 'x'? ` when something is near, then everything that is available."""
    names = [str(n) for n in names]  # keys of YAML may be anything
    close = get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}available: {choices(names)}"


def unwritable(place: str, error: OSError, elsewhere: str) -> StoreError:
    """Why nothing can be written at a place, in plain words where the reason is a usual one."""
    reasons = {
        errno.ENOSPC: "the disk is full",
        errno.EDQUOT: "the disk quota is used up",
        errno.EROFS: "the file system is read-only",
        errno.EACCES: "no permission to write",
        errno.ENOTDIR: "a file stands where a folder should be",
        errno.EEXIST: "a file stands where a folder should be",
    }
    why = reasons.get(error.errno or 0, error.strerror or str(error))
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return StoreError(f"{place}: {why}", ("free some space (autovoice task=gc), or " if full else "") + elsewhere)
