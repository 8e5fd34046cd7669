from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autovoice.config.settings import Settings, read_settings
from autovoice.errors import ConfigError


def read(**data: Any) -> Settings:
    return read_settings({"task": "build", **data}, cores=2)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param({}, {}, id="no_node"),
        pytest.param({"tensorrt": None}, {}, id="null"),
        pytest.param({"tensorrt": {}}, {}, id="empty"),
        pytest.param({"tensorrt": {"toy": None}}, {}, id="null_pipeline"),
        pytest.param({"tensorrt": {"toy": {}}}, {}, id="empty_pipeline"),
        pytest.param({"tensorrt": {"toy": {"engine_dir": None}}}, {}, id="null_folder"),
        pytest.param({"tensorrt": {"toy": {"engine_dir": ""}}}, {}, id="empty_folder"),
        pytest.param({"tensorrt": {"toy": {"engine_dir": "  "}}}, {}, id="blank_folder"),
        pytest.param({"tensorrt": {"toy": {"engine_dir": "a/b"}}}, {"toy": Path("a/b")}, id="a_folder"),
        pytest.param(
            {"tensorrt": {"toy": {"engine_dir": "a"}, "other": {"engine_dir": "b"}, "third": None}},
            {"toy": Path("a"), "other": Path("b")},
            id="several",
        ),
    ],
)
def test_folders_of_engines_by_pipeline(data: dict[str, Any], expected: dict[str, Path]) -> None:
    assert read(**data).engine_folders == expected


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        pytest.param(None, None, id="null"),
        pytest.param({}, None, id="absent"),
        pytest.param({"tensorrt_engines": None}, None, id="null_folder"),
        pytest.param({"tensorrt_engines": ""}, None, id="empty_folder"),
        pytest.param({"tensorrt_engines": "/engines"}, Path("/engines"), id="a_folder"),
    ],
)
def test_the_folder_that_all_pipelines_share(paths: Any, expected: Path | None) -> None:
    assert read(paths=paths).shared_engines == expected


def test_a_folder_below_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert read(paths={"tensorrt_engines": "~/engines"}).shared_engines == Path("/home/me/engines")


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (
            {"tensorrt": {"toy": {"engine_dri": "a"}}},
            "tensorrt.toy.engine_dri: unknown key 'engine_dri'\n  did you mean 'engine_dir'? available: engine_dir",
        ),
        (
            {"tensorrt": {"toy": {"engine_dir": 5}}},
            "tensorrt.toy.engine_dir: must be a string, got 5\n  'tensorrt.toy.engine_dir=\"5\"'",
        ),
        (
            {"tensorrt": {"toy": "a"}},
            "tensorrt.toy: must be a mapping, got 'a'\n  tensorrt.toy='{engine_dir: folder}'",
        ),
        (
            {"tensorrt": "a"},
            "tensorrt: must be a mapping, got 'a'\n  tensorrt='{pipeline: {engine_dir: folder}}'",
        ),
        ({"tensortr": {}}, "tensortr: unknown key 'tensortr'\n  did you mean 'tensorrt'?"),
        ({"on_mismtach": "fail"}, "on_mismtach: unknown key 'on_mismtach'\n  did you mean 'on_mismatch'?"),
        (
            {"paths": {"tensorrt_engines": ["a"]}},
            "paths.tensorrt_engines: must be a string, got ['a']\n  paths.tensorrt_engines=a",
        ),
        ({"targets": "vocoder"}, "targets: must be a list, got 'vocoder'\n  targets=[vocoder]"),
        ({"workers": "two"}, "workers: must be a whole number, got 'two'\n  workers=1, or workers=null"),
        ({"keep_going": 3}, "keep_going: must be true or false, got 3\n  keep_going=true, or keep_going=false"),
        (
            {"objectives": ["snr_db", "megabyte"]},
            "objectives: unknown 'megabyte'\n  did you mean 'megabytes'? available: megabytes, ms, snr_db",
        ),
        ({"objectives": ["loudness"]}, "objectives: unknown 'loudness'\n  available: megabytes, ms, snr_db"),
    ],
    ids=[
        *("key", "number", "pipeline_is_text", "all_is_text", "near", "near_policy", "list", "name_for_a_list"),
        *("word_for_a_number", "number_for_a_switch", "objective", "objective_like_no_other"),
    ],
)
def test_what_is_wrong_is_told(data: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(**data)
    assert str(caught.value).strip() == fault
