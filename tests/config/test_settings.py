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
        pytest.param({"engines": None}, {}, id="null"),
        pytest.param({"engines": {}}, {}, id="empty"),
        pytest.param({"engines": {"toy": None}}, {}, id="null_pipeline"),
        pytest.param({"engines": {"toy": {}}}, {}, id="empty_pipeline"),
        pytest.param({"engines": {"toy": {"dir": None}}}, {}, id="null_folder"),
        pytest.param({"engines": {"toy": {"dir": ""}}}, {}, id="empty_folder"),
        pytest.param({"engines": {"toy": {"dir": "  "}}}, {}, id="blank_folder"),
        pytest.param({"engines": {"toy": {"dir": "a/b"}}}, {"toy": Path("a/b")}, id="a_folder"),
        pytest.param(
            {"engines": {"toy": {"dir": "a"}, "other": {"dir": "b"}, "third": None}},
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
        pytest.param({"engines": None}, None, id="null_folder"),
        pytest.param({"engines": ""}, None, id="empty_folder"),
        pytest.param({"engines": "/engines"}, Path("/engines"), id="a_folder"),
    ],
)
def test_the_folder_that_all_pipelines_share(paths: Any, expected: Path | None) -> None:
    assert read(paths=paths).shared_engines == expected


def test_a_folder_below_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert read(paths={"engines": "~/engines"}).shared_engines == Path("/home/me/engines")


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (
            {"engines": {"toy": {"dri": "a"}}},
            "engines.toy.dri: unknown key 'dri'\n  did you mean 'dir'? available: dir",
        ),
        (
            {"engines": {"toy": {"dir": 5}}},
            "engines.toy.dir: must be a string, got 5\n  'engines.toy.dir=\"5\"'",
        ),
        (
            {"engines": {"toy": "a"}},
            "engines.toy: must be a mapping, got 'a'\n  engines.toy='{dir: folder}'",
        ),
        (
            {"engines": "a"},
            "engines: must be a mapping, got 'a'\n  engines='{pipeline: {dir: folder}}'",
        ),
        ({"enginse": {}}, "enginse: unknown key 'enginse'\n  did you mean 'engines'?"),
        ({"on_mismtach": "fail"}, "on_mismtach: unknown key 'on_mismtach'\n  did you mean 'on_mismatch'?"),
        (
            {"paths": {"engines": ["a"]}},
            "paths.engines: must be a string, got ['a']\n  paths.engines=a",
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


@pytest.mark.parametrize(
    ("given", "told"),
    [
        pytest.param(
            {"tensorrt": {"toy": {"engine_dir": "a"}}},
            "tensorrt.toy.engine_dir: is called engines.toy.dir now\n  engines.toy.dir=/a/folder",
            id="a_pipelines_own",
        ),
        pytest.param(
            {"tensorrt": None},
            "tensorrt: is called engines.<pipeline>.dir now\n  engines.<pipeline>.dir=/a/folder",
            id="the_whole_node",
        ),
        pytest.param(
            {"paths": {"tensorrt_engines": "/a"}},
            "paths.tensorrt_engines: is called paths.engines now\n  paths.engines=/a/folder",
            id="of_all",
        ),
    ],
)
def test_an_old_name_is_told_the_new_one(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(**given)
    assert str(raised.value) == told
