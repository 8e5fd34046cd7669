"""Files of a built project, damaged one at a time."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.campaigns.small import Small


def flip(content: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(content))
    return content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]


def digit(content: bytes, rng: Random) -> bytes:
    """Another digit, hexadecimal ones too: what stays readable does most harm."""
    places = [i for i, c in enumerate(content) if chr(c) in "0123456789abcdef"]
    if not places:
        return flip(content, rng)
    at = rng.choice(places)
    others = [c for c in b"0123456789" if c != content[at]]
    return content[:at] + bytes([rng.choice(others)]) + content[at + 1 :]


def zeros(content: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(content))
    n = min(rng.randrange(1, 64), len(content) - at)
    return content[:at] + bytes(n) + content[at + n :]


def cut(content: bytes, rng: Random) -> bytes:
    return content[: rng.randrange(len(content))]


def empty(content: bytes, rng: Random) -> bytes:
    return b""


def longer(content: bytes, rng: Random) -> bytes:
    return content + rng.randbytes(rng.randrange(1, 64))


def swapped(content: bytes, rng: Random) -> bytes:
    """Two pieces of the same length in each other's place."""
    n = max(1, min(64, len(content) // 3))
    one, other = sorted((rng.randrange(len(content) - 2 * n + 1) if len(content) > 2 * n else 0, len(content) - n))
    a, b = content[one : one + n], content[other : other + n]
    return content[:one] + b + content[one + n : other] + a + content[other + n :]


DAMAGES: tuple[Callable[[bytes, Random], bytes], ...] = (flip, flip, digit, digit, zeros, cut, empty, longer, swapped)


def kinds_of(project: Small) -> dict[str, list[Path]]:
    """The files that a project consists of, by what they are."""
    found: dict[str, list[Path]] = {}
    for path in sorted(p for p in project.outputs.rglob("*") if p.is_file() and p.stat().st_size):
        found.setdefault(_kind(path.relative_to(project.outputs)), []).append(path)
    return found


def _kind(path: Path) -> str:
    if path.parts[0] != "store":
        return "published manifest" if path.suffix == ".json" else "published engine"
    if path.parts[1] == "objects":
        return "record" if path.name == "record.json" else "artefact"
    return f"store/{path.parts[1]}"


def damage(project: Small, rng: Random, kind: str | None = None) -> tuple[str, str]:
    """Damage one file, of a kind where one is given; (its kind, what was done)."""
    kinds = kinds_of(project)
    kind = kind or rng.choice(sorted(kinds))
    path = rng.choice(kinds[kind])
    before, content = path.stat(), path.read_bytes()
    how = rng.choice([*DAMAGES, None])
    name = str(path.relative_to(project.root))
    if how is None:
        path.unlink()
        return kind, f"{name} removed"
    in_place, kept = rng.random() < 0.6, rng.random() < 0.6
    changed = how(content, rng)
    if not in_place:  # as whoever copies files about leaves them: no longer the store's hard link
        path.unlink()
    elif not before.st_mode & 0o200:
        path.chmod(0o644)
    path.write_bytes(changed)
    path.chmod(before.st_mode & 0o777)
    if kept:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    where = next(
        (i for i, (a, b) in enumerate(zip(content, changed, strict=False)) if a != b), min(len(content), len(changed))
    )
    told = f"{how.__name__} at {where} of {len(content)}, {'in place' if in_place else 'another inode'}"
    told += f", mtime {'kept' if kept else 'new'}: {content[where : where + 24]!r} → {changed[where : where + 24]!r}"
    return kind, f"{name} {told}"
