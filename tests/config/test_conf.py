"""Every YAML of the shipped tree, found by a recursive glob: its first words, its composition, its graph."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hydra.types import RunMode
from omegaconf import open_dict

from autovoice.config.compose import Composed, compose, conf_dir, plain, start
from autovoice.errors import ConfigError
from tests.builders import graph_from

FILES = sorted(str(p.relative_to(conf_dir()).with_suffix("")) for p in conf_dir().rglob("*.yaml"))
OPTIONS = [f for f in FILES if "/" in f and not f.startswith("hydra/")]

#: options that the shipped backend refuses, each in its own words
REFUSED = {
    "precision/bf16": r"onnxruntime cannot run bf16 \(bfloat16\)\n  it runs float16, float32, int8: precision=fp32",
    "precision/fp8": r"onnxruntime cannot run fp8 \(float8\)\n  it runs float16, float32, int8: precision=fp32",
}

#: options that are nothing without files of the user's own, and where their opening command finds these
NEEDED = {
    "calibration/npy": ("calibration.files", "samples/"),
    "calibration/npz": ("calibration.files", "data.npz"),
}

#: components of another pipeline than the default one, and the pipeline
ELSEWHERE = {"component/encoder/minilm": "sentence_encoder", "component/pooling/mean": "sentence_encoder"}

#: the component that each pipeline ends with
#: what only some backends run
WITH = {"precision/tf32": ["backend=tensorrt"]}
LAST = {"voice_conversion": "vocoder", "sentence_encoder": "pooling"}


@pytest.fixture
def users_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder to work in with the files that opening commands name."""
    for _, name in NEEDED.values():
        path = tmp_path / name if name.endswith(".npz") else tmp_path / name / "audio.npy"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)


def given(file: str) -> list[str]:
    """What else to say, for an option to be complete."""
    beside = [f"pipeline={ELSEWHERE[file]}"] if file in ELSEWHERE else list(WITH.get(file, []))
    return [f"{NEEDED[file][0]}={NEEDED[file][1]}"] if file in NEEDED else beside


def command(file: str) -> list[str]:
    """The words after `autovoice` in a file's opening comment, which only a package directive may precede."""
    lines = Path(conf_dir(), f"{file}.yaml").read_text().splitlines()
    first = lines[1] if lines[0].startswith("# @package") else lines[0]
    assert first.startswith("# autovoice"), f"{file}.yaml opens with {first!r}, not with the command that runs it"
    return shlex.split(first.removeprefix("# autovoice"))


def checked(composed: Composed, file: str) -> None:
    """Build the graph, or be refused where that is what should happen."""
    if file in REFUSED:
        with pytest.raises(ConfigError, match=REFUSED[file]):
            graph_from(composed)
    else:
        targets = tuple(composed.data["targets"])
        graph = graph_from(composed)
        assert graph.components[-1].name in (targets or (LAST[graph.spec.pipeline.name],))


def named(composed: Composed, group: str) -> set[str]:
    """The options of a group that components choose by name."""
    return {str(c.get(group)) for c in composed.data["component"].values()}


def test_the_glob_finds_every_group() -> None:
    groups = {"audio", "backend", "calibration", "component", "dims", "experiment", "gate", "pipeline", "precision"}
    assert {f.partition("/")[0] for f in OPTIONS} == groups


@pytest.mark.usefixtures("users_files")
@pytest.mark.parametrize("file", FILES)
def test_opens_with_a_command_that_takes_it_and_has_a_sound_graph(file: str) -> None:
    overrides = [word for word in command(file) if not word.startswith("-")]
    assert set(given(file)) <= set(overrides)
    config = start(None).compose_config("config", overrides, run_mode=RunMode.RUN)
    choices = {k.partition("@")[0]: v for k, v in config.hydra.runtime.choices.items()}
    group, _, option = file.rpartition("/")
    with open_dict(config):
        del config["hydra"]
    composed = plain(config, overrides)
    assert file == "config" or choices[group] == option or option in named(composed, group)
    checked(composed, file)


@pytest.mark.usefixtures("users_files")
@pytest.mark.parametrize("file", OPTIONS)
def test_every_option_composes_and_its_graph_is_sound(file: str) -> None:
    group, _, option = file.rpartition("/")
    checked(compose(None, [f"{group}={option}", *given(file)]), file)


@pytest.mark.parametrize("file", NEEDED)
def test_an_option_without_what_it_needs_says_what_to_give(file: str) -> None:
    key, (group, _, option) = NEEDED[file][0], file.rpartition("/")
    with pytest.raises(ConfigError) as raised:
        compose(None, [f"{group}={option}"])
    assert str(raised.value) == f"{key}: is required\n  set it: {key}=…"


@pytest.mark.usefixtures("users_files")
@pytest.mark.parametrize("file", [f for f in OPTIONS if f.startswith("calibration/")])
def test_every_calibration_serves_int8_but_the_one_without_data(file: str) -> None:
    name = file.rpartition("/")[2]
    composed = compose(None, ["precision=int8", f"calibration={name}", *given(file)])
    if name == "none":
        with pytest.raises(ConfigError, match=r"int8 needs calibration data, 'none' has none\n  calibration=npz"):
            graph_from(composed)
    else:
        assert {c.name for c in graph_from(composed).components if c.quantized and c.calibration.name == name} >= {
            "content_encoder",
            "vocoder",
        }
