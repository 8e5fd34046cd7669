"""A reader of the pages: a folder a page, with the files that it says, in which its commands run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile as sf

from autovoice.dims.expressions import evaluate
from autovoice.runtime.manifest import read_manifest
from tests.docs.pages import ROOT, files_of

EXTENDING = ROOT / "docs" / "extending.md"
#: the shipped pipeline with fewer, narrower layers and short blocks: what a page shows of it is not its size, and a
#: build of it takes a quarter of the time. The README's own first command is run whole by .ci/run.
SMALL = (
    "dims=streaming",
    "export.simplify=false",
    "+component.content_encoder.model={channels:16,kernels:[400],strides:[320]}",
    "+component.flow_decoder.model.n_flows=1",
    "+component.flow_decoder.model.n_layers=1",
    "+component.vocoder.model.upsample_initial_channel=32",
    "+component.vocoder.model.resblock_kernel_sizes=[3]",
    "+component.vocoder.model.resblock_dilation_sizes=[[1]]",
)
RECORDING = "autovoice/voice/recordings/arctic_male_scottish.flac"
#: seconds; a build shares the machine with other tests
_TIMEOUT = 900
PUBLISHED = "outputs/voice_conversion/onnxruntime-fp32"


@dataclass
class Reader:
    """`home` holds a folder a page; all of them build into one `outputs`. What has run once is not run again."""

    home: Path
    _done: dict[tuple[Path, tuple[str, ...]], str] = field(default_factory=dict)

    def folder(self, page: Path) -> Path:
        """The page's folder: its files, and those of the page that everything else builds on."""
        folder = self.home / page.stem
        if not folder.is_dir():
            self._make(folder, page)
        return folder

    def _make(self, folder: Path, page: Path) -> None:
        if page == EXTENDING:  # its task goes into the package itself
            for name in ("autovoice", "conf"):
                shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copytree(self._trained(), folder, ignore=shutil.ignore_patterns("autovoice", "outputs"))
            shutil.rmtree(folder / "conf")  # of the package; the reader's own is my/conf
        (self.home / "outputs").mkdir(exist_ok=True)
        (folder / "outputs").symlink_to(self.home / "outputs")
        for path, text in files_of(page).items():
            write(folder / path, text)
        if page == EXTENDING:
            _install(folder)
            return
        (folder / "tests").symlink_to(ROOT / "tests")
        samples, rate = sf.read(ROOT / RECORDING)
        (folder / RECORDING).parent.mkdir(parents=True)
        sf.write(folder / RECORDING, samples[:rate], rate)  # the first second, which fits the short blocks
        shutil.copytree((ROOT / RECORDING).parent, folder / "my_recordings")
        np.savez(folder / "data.npz", **{"vocoder/mel_input": np.zeros((2, 80, 32), np.float32)})
        write(folder / "tokens" / "input_ids.npy", "")

    def _trained(self) -> Path:
        """The folder of `extending`, in which its weights stand by now."""
        self.run(EXTENDING, ("python", "-m", "my_package.train"))
        return self.folder(EXTENDING)

    def run(self, page: Path, words: Sequence[str]) -> str:
        """What a command prints that must succeed."""
        key = (page, tuple(words))
        if key not in self._done:
            folder = self.folder(page)
            self._done[key] = output(words, folder)
        return self._done[key]

    def small(self, page: Path) -> Path:
        """The published folder of the small pipeline."""
        self.run(page, ("autovoice", *SMALL))
        (folder,) = (self.home / "outputs" / "voice_conversion").iterdir()
        return folder

    def feeds(self, page: Path) -> Path:
        """An npz of inputs for the small pipeline, at opt."""
        manifest = read_manifest(self.small(page))
        sizes = {name: dim["opt"] for name, dim in manifest["dims"].items()}
        rng = np.random.default_rng(0)
        needed = {n: t for n in manifest["inputs"] if (t := manifest["tensors"][n])["default"] is None}
        arrays = {
            name: rng.random([evaluate(axis, sizes) for axis in t["shape"]]).astype(t["dtype"])
            for name, t in needed.items()
        }
        path = self.folder(page) / "feeds.npz"
        np.savez(path, **arrays)
        return path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _install(folder: Path) -> None:
    """What `pip install -e .` leaves of its pyproject.toml: the entry points."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    about = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    write(about / "METADATA", f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = (
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in project["entry-points"].items()
    )
    write(about / "entry_points.txt", "".join(groups))


def output(words: Sequence[str], folder: Path) -> str:
    """What a command prints in a folder; `autovoice` and `python` are those of this interpreter."""
    first, *rest = words
    known = {"autovoice": [sys.executable, "-m", "autovoice"], "python": [sys.executable]}
    program = known.get(first) or [str(Path(sys.executable).with_name(first))]
    done = subprocess.run(
        [*program, *rest], cwd=folder, env=os.environ, text=True, capture_output=True, timeout=_TIMEOUT
    )
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout
