"""README.md and docs/*.md as data: fenced blocks, the commands and the files in them, and what they need."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = (README, *sorted((ROOT / "docs").glob("*.md")))
#: why a command does not run as it stands; anything else in such a mark is a mistake
NEEDS = {"minutes", "network", "tensorrt", "gpu"}
#: what a fence may call its content; a shell of another name would escape the search for commands
LANGUAGES = {"", "bash", "python", "yaml", "toml", "text"}
_FENCE = re.compile(r"^```(\S*)\s*$")
_MARK = re.compile(r"<!-- needs: (.+) -->")
_FILE = re.compile(r"`([\w./-]+\.\w+)`:")


@dataclass(frozen=True)
class Block:
    """A fenced block. `needs` are the words of the mark above it, `file` is the path that stands there alone."""

    page: Path
    line: int
    language: str
    text: str
    needs: frozenset[str]
    file: str | None = None

    @property
    def where(self) -> str:
        return f"{self.page.name}:{self.line}"

    @property
    def lines(self) -> list[str]:
        """Its command lines: those after `$ `, or all of a bash block."""
        lines = self.text.splitlines()
        return lines if self.language == "bash" else [line[2:] for line in lines if line.startswith("$ ")]


@dataclass(frozen=True)
class Command:
    """One command of a block; `said` is what the page shows below it."""

    block: Block
    words: tuple[str, ...]
    said: str = ""

    def __str__(self) -> str:
        return f"{self.block.page.stem}: {shlex.join(self.words)}"


def blocks_of(page: Path) -> list[Block]:
    """The page's blocks, each with what the line above it says."""
    found: list[Block] = []
    inside: list[str] | None = None
    above, start, language = "", 0, ""
    for number, line in enumerate(page.read_text().splitlines(), 1):
        fence = _FENCE.match(line)
        if inside is not None and fence:
            mark, file = _MARK.fullmatch(above), _FILE.fullmatch(above)
            needs = frozenset(mark[1].split(", ")) if mark else frozenset()
            found.append(Block(page, start, language, "\n".join(inside), needs, file[1] if file else None))
            inside, above = None, ""
        elif inside is not None:
            inside.append(line)
        elif fence:
            inside, start, language = [], number, fence[1]
        elif line.strip():
            above = line
    assert inside is None, f"{page.name}: a fence is not closed"
    return found


def commands_of(page: Path) -> list[Command]:
    found = []
    for block in blocks_of(page):
        for line in block.lines:
            for part in line.split(" && "):
                words = [w.removeprefix(".venv/bin/") for w in shlex.split(part, comments=True)]
                said = block.text.partition(f"$ {line}\n")[2] if block.language != "bash" else ""
                if words:  # not a comment alone
                    found.append(Command(block, tuple(words), said.partition("\n$ ")[0]))
    return found


def files_of(page: Path) -> dict[str, str]:
    """The files that the page says, by their paths."""
    return {b.file: b.text + "\n" for b in blocks_of(page) if b.file is not None}


def prose_of(page: Path) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
