from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from autovoice.command.engine_folder import OWN, SHARED, EngineFolder, engine_folder

KEY = "engines.toy.dir"
#: what a key may say: nothing, a folder that is not there, one that is
STATES = (None, "absent", "there")


def expected(root: Path, own: str | None, shared: str | None) -> EngineFolder:
    """Said in another way than the code: the first that is there wins, and every absent one before it is told."""
    warnings: tuple[str, ...] = ()
    for key, name, state in ((KEY, "own", own), (SHARED, "shared", shared)):
        path = root / f"{name}_{state}"
        if state == "there":
            return EngineFolder(path, key, warnings)
        if state == "absent":
            warnings += (f"{key}: there is no folder '{path}'; the next in order is taken",)
    return EngineFolder(None, OWN, warnings)


@pytest.mark.parametrize("others", [False, True], ids=["alone", "beside_another_pipelines"])
@pytest.mark.parametrize(("own", "shared"), list(product(STATES, STATES)))
def test_the_first_folder_that_is_there(own: str | None, shared: str | None, others: bool, tmp_path: Path) -> None:
    for name, state in (("own", own), ("shared", shared), ("other", "there")):
        if state == "there":
            (tmp_path / f"{name}_there").mkdir()
    folders = {"toy": tmp_path / f"own_{own}"} if own else {}
    folders |= {"other": tmp_path / "other_there"} if others else {}
    found = engine_folder("toy", folders, tmp_path / f"shared_{shared}" if shared else None)
    assert found == expected(tmp_path, own, shared)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "engines"
    file.touch()
    found = engine_folder("toy", {"toy": file}, tmp_path)
    assert (found.path, found.said_by) == (tmp_path, SHARED)
    assert found.warnings == (f"{KEY}: there is no folder '{file}'; the next in order is taken",)
