from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from autovoice.errors import AutovoiceError
from autovoice.plan import code
from autovoice.plan.code import closure, module_of, third_party, tool_version
from autovoice.store.hashing import uncached_sha256
from tests.builders import forget_sources, write_tree

TREE = {
    "toy_pkg/__init__.py": "",
    "toy_pkg/shared.py": "import os\n",
    "toy_pkg/unrelated.py": "",
    "toy_pkg/models/__init__.py": "from toy_pkg import registry\n",
    "toy_pkg/models/encoder.py": "import torch\nfrom ..shared import Thing\nfrom .layers import *\n",
    "toy_pkg/models/layers.py": "",
    "toy_pkg/registry.py": "raise RuntimeError('nobody may import this')\n",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Write files (over the toy package) and forget what was read before; their folder is importable."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(**files: str) -> Path:
        forget_sources()
        return write_tree(tmp_path, TREE | {f"toy_pkg/{name}.py": text for name, text in files.items()})

    yield write
    forget_sources()
    for name in [m for m in sys.modules if m.partition(".")[0] == "toy_pkg"]:
        del sys.modules[name]


def modules(target: str) -> set[str]:
    return {m.removeprefix("toy_pkg").lstrip(".") for m in closure(target)}


def test_the_file_its_packages_and_what_they_import(package: Callable[..., Path]) -> None:
    root = package()
    found = closure("toy_pkg.models.encoder.Encoder")
    assert list(found) == [
        "toy_pkg",
        "toy_pkg.models",
        "toy_pkg.models.encoder",
        "toy_pkg.models.layers",
        "toy_pkg.registry",
        "toy_pkg.shared",
    ]
    assert found["toy_pkg.shared"] == uncached_sha256(root / "toy_pkg/shared.py")


def test_imports_nothing(package: Callable[..., Path]) -> None:
    package()
    before = set(sys.modules)
    closure("toy_pkg.models.encoder.Encoder")
    assert set(sys.modules) == before


def test_an_edit_changes_that_file_alone(package: Callable[..., Path]) -> None:
    package()
    before = closure("toy_pkg.models.encoder.Encoder")
    package(shared="import os\nx = 1\n", unrelated="x = 1\n")
    after = closure("toy_pkg.models.encoder.Encoder")
    assert {m for m in before.keys() | after.keys() if before.get(m) != after.get(m)} == {"toy_pkg.shared"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("import toy_pkg.shared", {"shared"}, id="import"),
        pytest.param("import numpy, toy_pkg.shared as s", {"shared"}, id="import_as"),
        pytest.param("from toy_pkg import shared", {"shared"}, id="from_package"),
        pytest.param("from . import shared", {"shared"}, id="relative"),
        pytest.param("from .shared import x", {"shared"}, id="relative_module"),
        pytest.param("def f():\n    from .shared import x", {"shared"}, id="inside_a_function"),
        pytest.param("try:\n    from .shared import x\nexcept ImportError:\n    pass", {"shared"}, id="in_try"),
        pytest.param("import os, numpy.linalg\nfrom json import loads", set(), id="other_packages"),
        pytest.param("if TYPE_CHECKING:\n    from .shared import x", set(), id="type_checking"),
        pytest.param("if typing.TYPE_CHECKING:\n    from .shared import x", set(), id="typing_type_checking"),
        pytest.param(
            "if TYPE_CHECKING:\n    import toy_pkg.layers\nelse:\n    from .shared import x", {"shared"}, id="else"
        ),
        pytest.param("if not TYPE_CHECKING:\n    from .shared import x", {"shared"}, id="not_type_checking"),
        pytest.param("if x:\n    from .shared import x", {"shared"}, id="other_condition"),
        pytest.param("import toy_pkg_two", set(), id="longer_name"),
        pytest.param("from .nothing import x", set(), id="absent_module"),
    ],
)
def test_import_statements(text: str, expected: set[str], package: Callable[..., Path]) -> None:
    package(model=text)
    assert modules("toy_pkg.model.Model") - {"", "model"} == expected


def test_files_that_import_each_other_end(package: Callable[..., Path]) -> None:
    package(a="from . import b", b="from . import a")
    assert modules("toy_pkg.a.f") == {"", "a", "b"}


def test_installed_code_counts_by_its_version() -> None:
    assert closure("numpy.linalg.norm") == {}
    assert third_party("numpy.linalg.norm")["numpy"] == tool_version("numpy")


def test_installed_packages_that_it_imports_count_by_version(package: Callable[..., Path]) -> None:
    package(
        model="import json\nfrom hydra.utils import instantiate\n\ndef f():\n    import torch.nn", other="import onnx"
    )
    found = third_party("toy_pkg.model.f")
    assert found == {"hydra_core": tool_version("hydra-core"), "torch": tool_version("torch")}


def test_another_package_of_the_users_counts_by_content(package: Callable[..., Path], tmp_path: Path) -> None:
    root = package(model="from sister.parts import layer")
    (root / "sister").mkdir()
    (root / "sister" / "parts.py").write_text("layer = 1\n")
    assert "sister.parts" in closure("toy_pkg.model.Model")


def test_a_file_that_is_not_python_is_named_with_its_line(package: Callable[..., Path]) -> None:
    root = package(model="x = 1\ndef f(:\n")
    with pytest.raises(AutovoiceError) as raised:
        closure("toy_pkg.model.Model")
    assert raised.value.fact == f"{root}/toy_pkg/model.py:2: invalid syntax"
    assert raised.value.fix == "this file is not valid Python"


@pytest.mark.parametrize(
    ("target", "module"),
    [
        ("toy_pkg.models.encoder.Encoder", "toy_pkg.models.encoder"),
        ("toy_pkg.models.encoder.Encoder.from_name", "toy_pkg.models.encoder"),
        ("toy_pkg.models.build", "toy_pkg.models"),
        ("json.loads", "json"),
    ],
    ids=["class", "method", "function_of_a_package", "standard_library"],
)
def test_the_module_of_a_dotted_path(target: str, module: str, package: Callable[..., Path]) -> None:
    package()
    assert module_of(target) == module


@pytest.mark.parametrize(
    ("target", "absent"),
    [
        ("nowhere.model.Model", "nowhere.model"),
        ("toy_pkg.modles.encoder.Encoder", "toy_pkg.modles.encoder"),
        ("toy_pkg.models.typo.build", "toy_pkg.models.typo"),
    ],
    ids=["package", "subpackage", "module"],
)
def test_a_module_that_does_not_exist(target: str, absent: str, package: Callable[..., Path]) -> None:
    package()
    with pytest.raises(AutovoiceError) as raised:
        module_of(target)
    assert raised.value.fact == f"_target_ '{target}': there is no module '{absent}'"
    assert "put its folder on PYTHONPATH" in raised.value.fix


def test_version_of_a_tool() -> None:
    numpy = importlib.import_module("numpy")
    assert (tool_version("numpy"), tool_version("no-such-distribution")) == (numpy.__version__, "absent")


# -- what is remembered from run to run ------------------------------------------------------------


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is remembered."""
    monkeypatch.setattr(code, "_KNOWN", {})
    monkeypatch.setattr(code, "_CHANGED", set())


def refuse(*_: object) -> None:
    raise AssertionError("a file was read that is known")


@pytest.mark.usefixtures("memory")
def test_a_file_that_did_not_change_is_not_read_again(
    package: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    package()
    found = closure("toy_pkg.models.encoder.Encoder")
    kept = json.loads(json.dumps(code.learned()))
    monkeypatch.setattr(code, "_KNOWN", {})
    monkeypatch.setattr(code, "_CHANGED", set())
    code.remember(kept)
    forget_sources()
    monkeypatch.setattr(code, "imported", refuse)
    assert closure("toy_pkg.models.encoder.Encoder") == found
    assert code.learned() is None


@pytest.mark.usefixtures("memory")
def test_a_file_that_changed_is_read_again(package: Callable[..., Path]) -> None:
    package()
    closure("toy_pkg.models.encoder.Encoder")
    package(shared="from toy_pkg import unrelated\n")
    assert "unrelated" in modules("toy_pkg.models.encoder.Encoder")


@pytest.mark.usefixtures("memory")
def test_a_module_that_became_a_package_is_read_again(package: Callable[..., Path]) -> None:
    """The same content, other relative imports."""
    text = "from .unrelated import x\n"
    root = package(single=text)
    assert "unrelated" in modules("toy_pkg.single.Thing")
    package(**{"single/__init__": text, "single/unrelated": ""})
    (root / "toy_pkg/single.py").unlink()
    assert modules("toy_pkg.single.Thing") == {"", "single", "single.unrelated"}


@pytest.mark.usefixtures("memory")
def test_a_module_that_is_gone_is_forgotten(package: Callable[..., Path]) -> None:
    root = package(single="import os\n")
    closure("toy_pkg.single.Thing")
    (root / "toy_pkg/single.py").unlink()
    forget_sources()
    kept = code.learned()
    assert kept is not None
    assert set(kept["imports"]) == {"toy_pkg."}


@pytest.mark.usefixtures("memory")
def test_what_another_version_read_is_not_believed(package: Callable[..., Path]) -> None:
    package()
    closure("toy_pkg.models.encoder.Encoder")
    kept = code.learned()
    assert kept is not None
    code._KNOWN.clear()
    code.remember(kept | {"by": "0" * 64})
    assert code._KNOWN == {}


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("entry", [None, [], ["digest"], ["digest", "os"], ["digest", [1]], [1, ["os"]], {"a": 1}])
def test_entries_of_another_form_are_not_taken(entry: object) -> None:
    code.remember({"by": code._this(), "imports": {"toy_pkg": entry, "other": ["digest", ["os"]]}})
    assert code._KNOWN == {"other": ("digest", ("os",))}


# -- code that is no Python file, and code that is named -------------------------------------------


def test_a_compiled_extension_of_ones_own_counts_by_content(package: Callable[..., Path]) -> None:
    root = package(models__fast="", single="from toy_pkg import _kernels\n")
    compiled = root / "toy_pkg" / f"_kernels{EXTENSION_SUFFIXES[0]}"
    compiled.write_bytes(b"\x7fELF one")
    forget_sources()
    before = closure("toy_pkg.single.Thing")
    assert before["toy_pkg._kernels"] == uncached_sha256(compiled)
    assert code.code_file("toy_pkg._kernels") == compiled
    compiled.write_bytes(b"\x7fELF two")
    forget_sources()
    assert {m for m, d in closure("toy_pkg.single.Thing").items() if before[m] != d} == {"toy_pkg._kernels"}


def test_a_target_that_is_compiled(package: Callable[..., Path]) -> None:
    root = package()
    (root / "toy_pkg" / f"_kernels{EXTENSION_SUFFIXES[0]}").write_bytes(b"\x7fELF")
    forget_sources()
    assert set(closure("toy_pkg._kernels.Net")) == {"toy_pkg", "toy_pkg._kernels"}


@pytest.mark.parametrize(
    "text",
    [
        "import importlib\nx = importlib.import_module('toy_pkg.unrelated')\n",
        "from importlib import import_module\nx = import_module('.unrelated', __package__)\n",
        "x = __import__('toy_pkg.unrelated')\n",
    ],
)
def test_a_module_that_is_imported_by_its_name(text: str, package: Callable[..., Path]) -> None:
    package(single=text)
    assert "unrelated" in modules("toy_pkg.single.Thing")


@pytest.mark.parametrize("name", ["......x", "", "toy_pkg.typo"])
def test_names_that_are_no_modules_do_no_harm(name: str, package: Callable[..., Path]) -> None:
    package(single=f"from importlib import import_module\ndef f(n): import_module(n); import_module({name!r})\n")
    assert modules("toy_pkg.single.Thing") == {"", "single"}


def test_what_was_installed_from_a_folder_counts_by_what_was_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Installed again under the same version, with other code in it."""
    site = tmp_path / "site-packages"
    info = site / "ownnets-1.0.dist-info"
    write_tree(
        site,
        {"ownnets/__init__.py": "", f"{info.name}/METADATA": "Metadata-Version: 2.1\nName: ownnets\nVersion: 1.0\n"},
    )
    monkeypatch.syspath_prepend(site)
    found = []
    for record, direct in (("a,sha256=1,", False), ("a,sha256=1,", True), ("a,sha256=2,", True)):
        (info / "RECORD").write_text(record)
        if direct:
            (info / "direct_url.json").write_text("{}")
        forget_sources()
        found.append(third_party("ownnets.Net")["ownnets"])
    forget_sources()
    assert found[0] == "1.0"
    assert len(set(found)) == 3
