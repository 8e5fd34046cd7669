from __future__ import annotations

import re
from pathlib import Path

import pytest

import autovoice
from autovoice.config.paths import files_of, located
from autovoice.errors import AutovoiceError
from tests.builders import write_tree

PACKAGE = Path(autovoice.__file__).parent


@pytest.fixture
def data(tmp_path: Path) -> Path:
    names = ["a.wav", "b.flac", "deep/c.wav", "deep/er/d.wav", "notes.txt", ".hidden.wav", ".cache/e.wav"]
    return write_tree(tmp_path / "data", dict.fromkeys(names, ""))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        pytest.param("a.wav", ["a.wav"], id="file"),
        pytest.param("deep/c.wav", ["c.wav"], id="file_by_its_own_name"),
        pytest.param(".hidden.wav", [".hidden.wav"], id="hidden_file_that_is_named"),
        pytest.param("", ["a.wav", "b.flac", "deep/c.wav", "deep/er/d.wav", "notes.txt"], id="folder"),
        pytest.param("deep/", ["c.wav", "er/d.wav"], id="folder_below"),
        pytest.param("*.wav", ["a.wav"], id="pattern"),
        pytest.param("**/*.wav", ["a.wav", "deep/c.wav", "deep/er/d.wav"], id="pattern_below"),
        pytest.param("*/*.wav", ["deep/c.wav"], id="pattern_in_a_folder"),
        pytest.param("?.[wf]*", ["a.wav", "b.flac"], id="pattern_of_characters"),
        pytest.param("deep/*/d.wav", ["er/d.wav"], id="from_the_first_wildcard"),
        pytest.param("*", ["a.wav", "b.flac", "notes.txt"], id="pattern_means_no_folder"),
        pytest.param("*.ogg", [], id="no_match"),
        pytest.param("gone.wav", [], id="no_file"),
        pytest.param("gone/*.wav", [], id="no_folder"),
    ],
)
def test_files(pattern: str, expected: list[str], data: Path) -> None:
    found = files_of(str(data / pattern))
    assert sorted(found) == expected
    assert all(path.is_file() and str(path).endswith(name) for name, path in found.items())


def test_names_come_in_order(data: Path) -> None:
    assert list(files_of(str(data))) == sorted(files_of(str(data)))


def test_a_folder_that_is_hidden_itself_may_be_named(data: Path) -> None:
    assert list(files_of(str(data / ".cache"))) == ["e.wav"]


def test_paths_from_the_working_folder(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data)
    assert files_of("a.wav") == {"a.wav": Path("a.wav")}
    assert files_of("deep") == {"c.wav": Path("deep/c.wav"), "er/d.wav": Path("deep/er/d.wav")}
    assert files_of("*.wav") == {"a.wav": Path("a.wav")}


def test_a_folder_whose_name_has_a_wildcard_in_it(tmp_path: Path) -> None:
    write_tree(tmp_path, {"take [1]/a.wav": ""})
    assert list(files_of(str(tmp_path / "take [1]"))) == ["a.wav"]


def test_a_file_whose_name_has_a_wildcard_in_it(tmp_path: Path) -> None:
    write_tree(tmp_path, {"take [1].wav": ""})
    assert list(files_of(str(tmp_path / "take [1].wav"))) == ["take [1].wav"]


def test_inside_an_installed_package() -> None:
    assert located("pkg://autovoice/voice/recordings") == PACKAGE / "voice" / "recordings"
    found = files_of("pkg://autovoice/voice/recordings/*.flac")
    assert found == {p.name: p for p in sorted((PACKAGE / "voice" / "recordings").glob("*.flac"))}
    assert len(found) == 4


@pytest.mark.parametrize("name", ["no_such_package", "math", "no-such", "a.b", ""])
@pytest.mark.parametrize("of", [located, files_of])
def test_a_package_that_is_not_installed(name: str, of: object) -> None:
    assert callable(of)
    message = f"pkg://{name}/f.npz: package '{name}' is not installed here\n  pip install {name.replace('_', '-')}"
    with pytest.raises(AutovoiceError, match=f"^{re.escape(message)}"):
        of(f"pkg://{name}/f.npz")


def test_a_plain_path_is_itself() -> None:
    assert located("dir/a.pth") == Path("dir/a.pth")
