"""The files of a published folder, opened once: what is hashed is what is loaded, whatever becomes of the names."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from autovoice.errors import ArtefactError
from autovoice.store.json_files import open_regular


class VerifiedFile:
    """A file that a manifest lists. Read it by `read_bytes`, or open it as a path; `str` is the name for people.

    `with_name` gives another file of the same engine, and nothing that the manifest does not list.
    """

    def __init__(self, path: Path, digest: str, descriptor: int | OSError, engine: Mapping[str, VerifiedFile]) -> None:
        self.path = path
        self._digest = digest
        self._descriptor = descriptor
        self._engine = engine
        self._checked = False
        self._identity = _identity(descriptor) if isinstance(descriptor, int) else None

    @property
    def name(self) -> str:
        return self.path.name

    def __str__(self) -> str:
        return str(self.path)

    def __fspath__(self) -> str:
        """A path to the very file that was checked, also when another one has taken its name. Raises ArtefactError."""
        self.check()
        return f"/proc/self/fd/{self._opened}"

    def read_bytes(self) -> bytes:
        """The content, checked once. Raises ArtefactError where it is not what the manifest says."""
        self._check_size()
        with open(f"/proc/self/fd/{self._opened}", "rb") as file:
            content = file.read()
        if not self._checked:
            self._compare(hashlib.sha256(content).hexdigest())
        return content

    def check(self) -> None:
        """Raises ArtefactError where the content is not what the manifest says."""
        if self._checked:
            return
        self._check_size()
        with open(f"/proc/self/fd/{self._opened}", "rb") as file:
            self._compare(hashlib.file_digest(file, "sha256").hexdigest())

    def check_unchanged(self) -> None:
        """Raises ArtefactError where someone has written into the file since it was opened."""
        if _identity(self._opened) != self._identity:
            raise ArtefactError(f"{self.path}: was written to while it was loaded", "load it again")

    def with_name(self, name: str) -> VerifiedFile:
        if name in self._engine:
            return self._engine[name]
        return VerifiedFile(self.path.with_name(name), "", OSError(errno.ENOENT, "the manifest lists no such file"), {})

    @property
    def missing(self) -> bool:
        return isinstance(self._descriptor, OSError) and self._descriptor.errno == errno.ENOENT

    def close(self) -> None:
        if isinstance(self._descriptor, int):
            os.close(self._descriptor)
        self._descriptor = OSError(errno.EBADF, "is closed")

    @property
    def _opened(self) -> int:
        if isinstance(self._descriptor, OSError):
            linked = self._descriptor.errno == errno.ELOOP
            fix = f"copy the whole folder{' with files in place of links, cp -rL' if linked else ''}, or build it again"
            raise ArtefactError(f"{self.path}: {self._descriptor.strerror}", fix) from self._descriptor
        return self._descriptor

    def _check_size(self) -> None:
        """A file with holes may claim any size, and would be read for hours."""
        size = os.fstat(self._opened).st_size
        if size > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
            raise ArtefactError(f"{self.path}: has {size} bytes, more than this machine has memory", "build it again")

    def _compare(self, digest: str) -> None:
        if digest != self._digest:
            with suppress(OSError):
                os.utime(self._opened)  # no longer vouched for by its time: the next build sees the damage and mends it
            raise ArtefactError(
                f"{self.path}: is not the file that was built (sha256 {digest[:12]}…, manifest {self._digest[:12]}…)",
                "run the build again; it restores the file in its own folder",
            )
        self._checked = True


def _identity(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_size, found.st_mtime_ns


def open_files(folder: Path, descriptor: int, digests: Mapping[str, str]) -> dict[str, VerifiedFile]:
    """The files of one engine in an open folder; one that cannot be opened says so when it is used."""
    found: dict[str, VerifiedFile] = {}
    for name, digest in digests.items():
        opened: int | OSError
        try:
            opened = open_regular(name, descriptor)
        except OSError as e:
            opened = e
        found[name] = VerifiedFile(folder / name, digest, opened, found)
    return found
