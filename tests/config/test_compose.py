from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from autovoice.config.compose import compose, conf_dir, warnings_of_tree
from autovoice.errors import AutovoiceError, ConfigError
from autovoice.graph.wiring import Graph
from autovoice.spec import Component, Target
from tests.builders import composed_graph, graph_from, write_tree

FP32 = "lowering: {_target_: autovoice.onnx_tools.lowering.floating.keep_float32}"


@pytest.fixture(autouse=True)
def _hydra() -> Iterator[None]:
    yield
    GlobalHydra.instance().clear()


def part(graph: Graph, name: str) -> Component:
    return next(c for c in graph.components if c.name == name)


# -- choosing --------------------------------------------------------------------------------------


def test_plain_data_with_nothing_of_hydra_in_it() -> None:
    composed = compose(None, ["workers=2"])
    assert composed.overrides == ("workers=2",)
    assert type(composed.data) is dict
    assert type(composed.data["dims"]["frames"]) is dict
    assert composed.data["workers"] == 2
    assert "hydra" not in composed.data


def test_empty_buckets_are_there_to_be_set_and_reach_nobody() -> None:
    """A source that takes `${dims}` as its argument is the same without them."""
    data = compose(None, ["calibration=synthetic", "dims.batch.buckets=[1]"]).data
    for dims in (data["dims"], data["calibration"]["source"]["dims"]):
        assert (dims["batch"]["buckets"], "buckets" in dims["frames"]) == ([1], False)


def test_a_vocoder_brings_its_own_audio_contract() -> None:
    before, after = composed_graph(), composed_graph("component/vocoder=hifigan_44k")
    assert (before.spec.pipeline.contract["hop"], after.spec.pipeline.contract["hop"]) == (256, 512)
    assert before.tensors["audio_output"].shape == ("batch", 1, "256*frames")
    assert after.tensors["audio_output"].shape == ("batch", 1, "512*frames")
    assert part(after, "vocoder").model == Target(
        "autovoice.models.vocoder.HifiganVocoder",
        {"upsample_rates": [8, 8, 2, 2, 2], "upsample_kernel_sizes": [16, 16, 4, 4, 4]},
    )
    assert after.dims["samples"].max == before.dims["samples"].max  # the frame clock is the same


def test_an_experiment_overrides_several_groups() -> None:
    graph = composed_graph("experiment=hubert_44k")
    model = part(graph, "content_encoder").model
    assert model is not None
    assert model.path.endswith("HubertContentEncoder")
    assert graph.spec.pipeline.contract["sample_rate"] == 44100


def test_a_precision_chosen_for_all_reaches_every_component() -> None:
    assert {c.precision.name for c in composed_graph("precision=fp16").components} == {"fp16"}


def test_a_precision_by_name_reaches_one_component() -> None:
    graph = composed_graph("component.vocoder.precision=fp16")
    assert {c.name: c.precision.name for c in graph.components if c.precision.name != "fp32"} == {"vocoder": "fp16"}


def test_a_gate_by_name_comes_with_its_own_defaults_list() -> None:
    graph = composed_graph("component.vocoder.gate=strict")
    strict = part(graph, "vocoder").gate.component
    assert strict["snr_db"] == {"fp32": 90, "fp16": 50, "bf16": 25, "int8": 26, "fp8": 20}
    assert strict["cosine"] == part(graph, "conditioner").gate.component["cosine"]  # of gate/default, below it
    assert part(graph, "conditioner").gate.component["snr_db"]["fp32"] == 60


def test_looking_a_name_up_leaves_the_composed_tree_as_it_was() -> None:
    composed = compose(None, ["component.vocoder.gate=strict"])
    before = dict(composed.config)
    graph_from(composed)
    assert dict(composed.config) == before


# -- a user's own tree -----------------------------------------------------------------------------


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return write_tree(
        tmp_path / "conf",
        {
            "component/denoiser/small.yaml": """
                model: {_target_: my.denoiser.Denoiser, width: "${dims.frames.min}"}
                inputs: [noisy]
                outputs:
                  clean: {dtype: float32, shape: [batch, frames]}
                precision: ${precision}
                backend: ${backend}
                calibration: none
                gate: ${gate}
                """,
            "pipeline/denoise.yaml": """
                # @package _global_
                defaults: [/dims: short, /component/denoiser: small]
                pipeline:
                  name: denoise
                  inputs: {noisy: {dtype: float32, shape: [batch, frames]}}
                """,
            "dims/short.yaml": """
                batch: {min: 1, opt: 1, max: 1}
                frames: {min: 4, opt: 8, max: "4*batch + 12"}
                """,
            "precision/fp32_half.yaml": f"""
                name: fp32
                type: float32
                {FP32}
                keep: {{nodes: ["n${{dims.frames.max}}"]}}
                """,
        },
    )


def test_own_component_pipeline_dims_and_precision(mine: Path) -> None:
    graph = composed_graph("pipeline=denoise", "precision=fp32_half", config_dir=mine)
    (c,) = graph.components
    assert (c.name, c.model) == ("denoiser", Target("my.denoiser.Denoiser", {"width": 4}))
    assert (graph.spec.pipeline.name, graph.outputs) == ("denoise", ("clean",))
    assert (graph.dims["frames"].min, graph.dims["frames"].max) == (4, 16)
    assert c.precision.keep.nodes == ("n4*batch + 12",)


def test_own_files_are_found_by_name_and_resolve_inside_the_whole(mine: Path) -> None:
    graph = composed_graph("component.vocoder.precision=fp32_half", config_dir=mine)
    assert part(graph, "vocoder").precision.keep.nodes == ("n1024",)
    assert part(graph, "conditioner").precision.keep.nodes == ()


def test_own_options_are_offered_beside_the_shipped_ones(mine: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'fp32_half'") as raised:
        composed_graph("component.vocoder.precision=fp32_hlf", config_dir=mine)
    assert raised.value.fact.endswith(
        "available: bf16, fp16, fp32, fp32_half, fp8, int8, int8_entropy, int8_minmax, tf32"
    )


def test_a_user_file_that_the_shipped_tree_hides_is_reported(mine: Path) -> None:
    write_tree(mine, {"precision/fp16.yaml": "name: mine", "gate/fp16.yaml": ""})
    assert warnings_of_tree(mine) == [
        f"{mine}/precision/fp16.yaml is hidden by the shipped file of that name; rename it"
    ]
    assert warnings_of_tree(None) == []


def test_config_dir_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(AutovoiceError, match=r"--config-dir .*/gone: no such folder\n  give the folder of your own"):
        compose(tmp_path / "gone", [])


def test_the_shipped_tree_is_where_the_root_stands() -> None:
    assert (conf_dir() / "config.yaml").is_file()


# -- mistakes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "fact", "fix"),
    [
        pytest.param(
            "precision=fp17",
            "precision=fp17: no such option in group 'precision' (asked for by config)",
            "did you mean 'fp16'? available: bf16, fp16, fp32",
            id="option",
        ),
        pytest.param(
            "precision=",
            "precision=: no such option in group 'precision' (asked for by config)",
            "available: bf16, fp16, fp32, fp8, int8, int8_entropy, int8_minmax, tf32",
            id="no_option",
        ),
        pytest.param(
            "component/vocoder=",
            "component/vocoder=: no such option in group 'component/vocoder' (asked for by pipeline/voice_conversion)",
            "available: hifigan, hifigan_44k",
            id="no_variant",
        ),
        pytest.param(
            "dims=ofline",
            "dims=ofline: no such option in group 'dims' (asked for by pipeline/voice_conversion)",
            "did you mean 'offline'? available: default, offline, streaming",
            id="option_of_a_pipeline",
        ),
        pytest.param(
            "component/vocoder=hifigann",
            "component/vocoder=hifigann: no such option in group 'component/vocoder' "
            "(asked for by pipeline/voice_conversion)",
            "did you mean 'hifigan'? available: hifigan, hifigan_44k",
            id="variant",
        ),
        pytest.param(
            "component/vocder=hifigan",
            "component/vocder: no such group in use",
            "did you mean 'component/vocoder'? available: audio, backend, ",
            id="group",
        ),
        pytest.param(
            "precison=fp16",
            "precison: no key 'precison' in the configuration",
            "did you mean 'precision'? available: audio, backend, ",
            id="top_key",
        ),
        pytest.param(
            "dims.frames.mx=3",
            "dims.frames.mx: no key 'mx' in dims.frames",
            "did you mean 'max'? available: buckets, max, min, opt, trace; a new one is added with +dims.frames.mx=…",
            id="last_key",
        ),
        pytest.param(
            "dims.frmes.max=3",
            "dims.frmes.max: no key 'frmes' in dims",
            "did you mean 'frames'? available: batch, content_frames, frames, samples; "
            "a new one is added with +dims.frmes.max=…",
            id="middle_key",
        ),
        pytest.param(
            "dims.frames.max.x=3",
            "dims.frames.max.x: dims.frames.max has no keys below it",
            "it is 1024",
            id="below_a_leaf",
        ),
        pytest.param(
            "precision=fp16,fp32",
            "precision=fp16,fp32: several values, which only a sweep takes (-m)",
            "'precision=[fp16, fp32]', or 'precision=\"fp16,fp32\"'",
            id="sweep",
        ),
        pytest.param("precision", "precision: is no override, which is key=value", "precision=…", id="no_value"),
    ],
)
def test_overrides_of_what_is_not_there(override: str, fact: str, fix: str) -> None:
    with pytest.raises(AutovoiceError) as raised:
        compose(None, ["workers=1", override])
    assert raised.value.fact == fact
    assert raised.value.fix.startswith(fix)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        pytest.param("dims.frames.min=???", "dims.frames.min: is required\n  set it: dims.frames.min=…", id="missing"),
        pytest.param(
            "dims.frames.min=${dims.frmes.opt}",
            "dims.frames.min: Interpolation key 'dims.frmes.opt' not found\n  every ${…} names a value of this tree",
            id="interpolation",
        ),
    ],
)
def test_values_that_do_not_resolve(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        compose(None, [override])
    assert str(raised.value) == message


@pytest.mark.parametrize("override", ["precision=odd", "component.vocoder.precision=odd"], ids=["group", "name"])
def test_a_syntax_error_names_file_and_line(override: str, tmp_path: Path) -> None:
    write_tree(tmp_path, {"precision/odd.yaml": "# mine\nname: odd\n type: float32\n"})
    with pytest.raises(AutovoiceError) as raised:
        composed_graph(override, config_dir=tmp_path)
    assert str(raised.value) == (
        f"{tmp_path}/precision/odd.yaml:3: not valid YAML\n  mapping values are not allowed here"
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("name: ???", "precision/odd.name: is required\n  set it in precision/odd.yaml"),
        (
            "name: ${nobody}",
            "precision/odd.name: Interpolation key 'nobody' not found\n  every ${…} names a value of this tree",
        ),
    ],
    ids=["missing", "interpolation"],
)
def test_a_looked_up_file_is_named_with_its_key(line: str, message: str, tmp_path: Path) -> None:
    write_tree(tmp_path, {"precision/odd.yaml": f"{line}\ntype: float32\n{FP32}\n"})
    with pytest.raises(ConfigError) as raised:
        composed_graph("component.vocoder.precision=odd", config_dir=tmp_path)
    assert str(raised.value) == message


def test_an_option_that_a_user_pipeline_asks_for_names_the_pipeline(tmp_path: Path) -> None:
    write_tree(tmp_path, {"pipeline/odd.yaml": "# @package _global_\ndefaults: [/dims: nope]\n"})
    with pytest.raises(
        AutovoiceError, match=r"dims=nope: no such option in group 'dims' \(asked for by pipeline/odd\)"
    ):
        compose(tmp_path, ["pipeline=odd"])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("tensorrt.voice_conversion.engine_dir", "engines.voice_conversion.dir"),
        ("paths.tensorrt_engines", "paths.engines"),
    ],
)
def test_an_old_key_on_the_command_line_is_told_its_new_name(old: str, new: str) -> None:
    with pytest.raises(AutovoiceError) as raised:
        compose(None, [f"{old}=engines"])
    assert str(raised.value) == f"{old}: is called {new} now\n  {new}=/a/folder"
