"""What README.md and docs/ say of the repository is there: links, packages, files; and figures stand in one place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.docs.pages import LANGUAGES, NEEDS, PAGES, README, ROOT, blocks_of, commands_of, prose_of

DOCS = ROOT / "docs"
DESIGN = (DOCS / "design.md").read_text()
MOST_README = 10 * 1024
MOST_FILES = 15
SECTIONS = [
    "Install and build",
    "Convert a recording",
    "Your own model",
    "Choose precision and backend",
    "What runs again, and why",
    "Tasks",
    "Limits",
    "More",
]
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def test_the_readme_is_short_and_has_its_sections() -> None:
    assert README.stat().st_size <= MOST_README
    assert re.findall(r"^## (.+)$", README.read_text(), re.M) == SECTIONS


def test_the_readme_has_the_two_blocks_that_ci_takes() -> None:
    first, second = (b for b in blocks_of(README) if b.language == "bash")
    assert first.text.endswith(".venv/bin/autovoice")
    assert second.text.startswith(".venv/bin/pytest")


@EVERY_PAGE
def test_blocks_are_of_known_kinds(page: Path) -> None:
    blocks = blocks_of(page)
    assert {b.language for b in blocks} <= LANGUAGES
    assert {need for b in blocks for need in b.needs} <= NEEDS
    for block in blocks:
        assert not block.needs or block.language == "python" or block.lines, f"{block.where}: a mark with no command"
        if block.language == "yaml":
            assert isinstance(yaml.safe_load(block.text), dict), block.where


@EVERY_PAGE
def test_commands_stand_in_command_blocks(page: Path) -> None:
    """A line that starts a program, without `$ ` before it, would never be run."""
    programs = {c.words[0] for c in commands_of(page)} | {"autovoice", "python", "pytest", "pip"}
    for block in (b for b in blocks_of(page) if b.language in ("", "text") and not b.lines):
        assert not [line for line in block.text.splitlines() if line.partition(" ")[0] in programs], block.where


@EVERY_PAGE
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", prose_of(page)):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in [slug(h) for h in re.findall(r"^#+ (.+)$", prose_of(target), re.M)], link


def slug(heading: str) -> str:
    """As GitHub names the anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_readme_links_every_page() -> None:
    linked = set(re.findall(r"\]\(docs/([^)#]+)\)", README.read_text()))
    assert linked == {p.name for p in PAGES if p != README}


@EVERY_PAGE
def test_files_that_are_named_exist(page: Path) -> None:
    named = re.findall(r"`((?:autovoice|conf|tests)/[\w./*<>-]+)`", prose_of(page))
    patterns = [re.sub(r"<\w+>", "*", name).rstrip("/") for name in named]
    own = {b.file for b in blocks_of(page)}
    assert [p for p in patterns if p not in own and not list(ROOT.glob(p))] == []


@EVERY_PAGE
def test_dates_stand_in_benchmarks_alone(page: Path) -> None:
    months = "January|February|March|April|May|June|July|August|September|October|November|December"
    dates = re.findall(rf"\b(?:{months}) \d{{4}}|\b20[2-9]\d-\d\d", page.read_text())
    assert not dates or page.name == "benchmarks.md"


@EVERY_PAGE
def test_no_path_of_a_machine(page: Path) -> None:
    assert re.findall(r"/(?:home|root|work|Users)/\S*", page.read_text()) == []


# -- design ----------------------------------------------------------------------------------------


def test_design_names_every_package_in_the_order_of_the_layers() -> None:
    named = re.findall(r"^\| `(\w+)(?:\.py)?` \|", DESIGN, re.M)
    packages = {p.parent.name for p in (ROOT / "autovoice").glob("*/__init__.py")}
    assert set(named) == {*packages, "cli"}
    pyproject = (ROOT / "pyproject.toml").read_text()
    layers = re.findall(r'"(\w+)"', re.search(r"layers = \[(.*?)\]", pyproject, re.S)[1])  # type: ignore[index]
    assert named == [layer for layer in layers if layer in named]


def test_design_leads_through_few_files_that_exist() -> None:
    files = re.findall(r"^\d+\. `([\w/.]+)`:", DESIGN, re.M)
    assert 0 < len(files) <= MOST_FILES
    assert [f for f in files if not (ROOT / f).is_file()] == []


def test_the_glossary_is_in_order() -> None:
    terms = [t.lower() for t in re.findall(r"^\*\*(.+?)\*\*:", (DOCS / "glossary.md").read_text(), re.M)]
    assert terms == sorted(terms)
    assert len(terms) == len(set(terms))


def test_every_task_stands_in_the_readme() -> None:
    tasks = {p.stem for p in (ROOT / "autovoice" / "tasks").glob("*.py")} - {"__init__"}
    table = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", README.read_text().partition("## Tasks")[2], re.M)
    assert {name for row in table for name in re.findall(r"\w+", row)} == tasks


def test_every_backend_and_precision_stands_in_the_readme() -> None:
    text = README.read_text()
    for group in ("backend", "precision", "dims", "gate", "calibration", "pipeline", "experiment"):
        row = re.search(rf"^\| `{group}` \| (.+) \|$", text, re.M)
        assert row is not None
        options = {p.stem for p in (ROOT / "conf" / group).glob("*.yaml")}
        assert set(re.findall(r"`(\w+)`", row[1])) == options


def test_a_page_is_read_as_it_is_meant(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "`my/a.yaml`:\n\n```yaml\nkey: 1\n```\n\n<!-- needs: minutes, gpu -->\n```\n$ autovoice 'a b=1'  # why\nsaid\n"
        "$ python x.py\n```\n\n```bash\n# nothing\n.venv/bin/pip install x && .venv/bin/autovoice\n```\n"
    )
    file, marked, shell = blocks_of(page)
    assert (file.file, file.text, file.needs) == ("my/a.yaml", "key: 1", frozenset())
    assert marked.needs == {"minutes", "gpu"}
    assert shell.needs == frozenset()
    commands = commands_of(page)
    assert [c.words for c in commands] == [
        ("autovoice", "a b=1"),
        ("python", "x.py"),
        ("pip", "install", "x"),
        ("autovoice",),
    ]
    assert commands[0].said == "said"
