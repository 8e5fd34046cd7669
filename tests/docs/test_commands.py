"""Every command of README.md and docs/ runs, or, where its block says what it needs, is planned or composed."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

from autovoice.config import compose
from tests.docs.pages import PAGES, ROOT, Block, Command, blocks_of, commands_of, files_of, prose_of
from tests.docs.reader import PUBLISHED, SMALL, Reader, output

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
COMMANDS = [c for page in PAGES for c in commands_of(page)]
PYTHON = [b for page in PAGES for b in blocks_of(page) if b.language == "python" and b.file is None]
INLINE = sorted({(page, span) for page in PAGES for span in re.findall(r"`autovoice ([^`]+)`", prose_of(page))})


@pytest.fixture(scope="session")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    return Reader(tmp_path_factory.mktemp("reader"))


def of(*programs: str, needs: bool) -> list[Command]:
    """The commands of these programs, those in marked blocks or those in others."""
    return [c for c in COMMANDS if c.words[0] in programs and bool(c.block.needs) == needs]


@pytest.mark.parametrize("command", of("autovoice", needs=False), ids=str)
def test_a_command_runs(reader: Reader, command: Command) -> None:
    said = run(reader, command)
    path = said.split()[-1]
    if not any(w.startswith("task=") for w in command.words):
        assert (reader.folder(command.block.page) / path).name == "manifest.json"
        assert (reader.folder(command.block.page) / path).is_file()
    check_headline(command, said)


@pytest.mark.parametrize("command", of("python", needs=False), ids=str)
def test_a_program_runs(reader: Reader, command: Command) -> None:
    run(reader, command)


def run(reader: Reader, command: Command) -> str:
    page, words = command.block.page, command.words
    small = "task=convert" in words or "step.py" in words  # they need the shipped pipeline, built
    if small:
        reader.small(page)
    return reader.run(page, (*words, *SMALL) if small else words)


@pytest.mark.parametrize("command", of("autovoice", needs=True), ids=str)
def test_a_command_that_needs_more_is_planned(reader: Reader, command: Command) -> None:
    """With `task=plan` in place of minutes; for tools that are not here, as `--cfg job`, which plans nothing."""
    page = command.block.page
    if command.block.needs & {"tensorrt", "gpu"} and any("tensorrt" in w for w in command.words):
        named = tuple(f"targets=[{w.removeprefix('component.')}]" if re.fullmatch(r"component\.\w+", w) else w
                      for w in command.words)  # fmt: skip
        assert "pipeline:" in reader.run(page, (*named, "--cfg", "job"))
        return
    said = reader.run(page, (*command.words, "task=plan"))
    assert re.search(r" steps, \d+ to run, \d+ reused", said)
    check_headline(command, said)


def check_headline(command: Command, said: str) -> None:
    """`voice_conversion on onnxruntime, int8: 55 steps`, where the page shows that line, is what is said today."""
    shown = re.search(r"^\w+ on \w+, .*: \d+ steps", command.said, re.M)
    if shown:
        assert shown[0] in said


@pytest.mark.parametrize(("page", "arguments"), INLINE, ids=lambda value: getattr(value, "stem", value))
def test_a_command_in_a_sentence_composes(
    page: Path, arguments: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    words = arguments.split()
    overrides = [w for w in words if w != "-m" and not re.fullmatch(r"component\.\w+", w)]
    if "-m" in words:
        compose.check_sweep(None, overrides)
    else:
        assert compose.compose(None, overrides).data["pipeline"]


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.where)
def test_a_python_block_runs(reader: Reader, block: Block) -> None:
    """With `feeds` as its reader has them, on the small pipeline in place of the one that it names."""
    compile(block.text, block.where, "exec")
    if block.needs:
        return
    assert PUBLISHED in block.text
    folder = reader.small(block.page)
    code = block.text.replace(PUBLISHED, str(folder))
    given = f"import numpy as np\nfeeds = dict(np.load({str(reader.feeds(block.page))!r}))\n"
    code = f"{given}{code}\nprint(sorted(outputs))"
    assert "audio_output" in output(("python", "-c", code), reader.folder(block.page))


# -- what is no command of autovoice ---------------------------------------------------------------


@pytest.mark.parametrize("command", of("pytest", needs=True), ids=str)
def test_a_pytest_command_names_what_there_is(command: Command) -> None:
    """Running it takes what the mark says: its paths and markers are looked up."""
    words = list(command.words[1:])
    declared = [m.partition(":")[0] for m in PYPROJECT["tool"]["pytest"]["ini_options"]["markers"]]
    while words:
        word = words.pop(0)
        if word == "-m":
            assert set(re.findall(r"\w+", words.pop(0))) <= {*declared, "not", "and", "or"}
        elif word in ("-n", "--dist"):
            assert words.pop(0) in ("auto", "2", "loadfile")
        elif word.startswith("-"):
            assert word in ("-q", "-x", "--benchmark-enable")
        else:
            assert (ROOT / word).exists(), word


@pytest.mark.parametrize("command", of("python", needs=True), ids=str)
def test_a_campaign_has_the_options(command: Command) -> None:
    flag, module, *options = command.words[1:]
    assert flag == "-m"
    usage = output(("python", "-m", module, "--help"), ROOT)
    assert {o for o in options if o.startswith("--")} <= set(re.findall(r"--[\w-]+", usage))


@pytest.mark.parametrize("command", of("ruff", needs=False), ids=str)
def test_a_linter_is_content(command: Command) -> None:
    output(command.words, ROOT)


@pytest.mark.parametrize("command", of("mypy", "lint-imports", needs=True), ids=str)
def test_a_slow_linter_is_configured(command: Command) -> None:
    assert {"mypy": "mypy", "lint-imports": "importlinter"}[command.words[0]] in PYPROJECT["tool"]


@pytest.mark.parametrize("command", of("pip", needs=True), ids=str)
def test_an_installation_names_what_there_is(command: Command) -> None:
    extras = re.findall(r"\[([\w,-]+)\]", command.words[-1])
    project = PYPROJECT["project"]
    assert {e for names in extras for e in names.split(",")} <= project["optional-dependencies"].keys()


@pytest.mark.parametrize("command", of("python3", needs=True), ids=str)
def test_an_environment_can_be_made(command: Command) -> None:
    assert command.words == ("python3", "-m", "venv", ".venv")
    assert sys.version_info >= (3, 11)


COVERED = [
    *of("autovoice", "python", "ruff", needs=False),
    *of("autovoice", "python", "pytest", "mypy", "lint-imports", "pip", "python3", needs=True),
]


def test_no_command_is_left_out() -> None:
    assert [str(c) for c in COMMANDS if c not in COVERED] == []


def test_files_of_the_pages_agree_where_two_say_the_same_one() -> None:
    """A page may say a file shorter; but the module and the component are one."""
    texts: dict[str, set[str]] = {}
    for page in PAGES:
        for name, text in files_of(page).items():
            texts.setdefault(name, set()).add(re.sub(r"\s*#.*", "", text))
    assert [n for n, versions in texts.items() if len(versions) > 1] == ["my/conf/pipeline/tagger.yaml"]
