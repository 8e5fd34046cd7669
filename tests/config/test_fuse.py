"""`fuse:` as it is written: groups, what they say for all, and every mistake in one report."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from autovoice.command.invocation import read_spec
from autovoice.config.compose import compose
from autovoice.errors import AutovoiceError
from autovoice.graph.fuse import fused
from autovoice.spec import BuildSpec
from tests.builders import composed_graph

DECODER = "fuse={decoder: [flow_decoder, mel_projection, vocoder]}"


def read(*overrides: str) -> tuple[BuildSpec, list[str]]:
    composed = compose(None, overrides)
    spec, faults = read_spec(composed.data, composed.lookup)
    components = fused(spec.components, spec.groups, spec.pipeline.outputs, faults)
    return replace(spec, components=components, groups=()), [str(f) for f in faults]


def faults_of(*overrides: str) -> list[str]:
    return read(*overrides)[1]


def test_nothing_is_fused_unless_asked() -> None:
    spec, faults = read()
    assert faults == []
    assert all(not c.members for c in spec.components)


def test_a_list_of_components_is_one_component() -> None:
    spec, faults = read(DECODER)
    assert faults == []
    assert [c.name for c in spec.components] == ["content_encoder", "pitch_encoder", "conditioner", "decoder"]
    (decoder,) = (c for c in spec.components if c.members)
    assert [m.name for m in decoder.members] == ["flow_decoder", "mel_projection", "vocoder"]
    assert [i.wire for i in decoder.inputs] == ["latent_input", "mask", "conditioning"]
    assert [o.tensor.audio for o in decoder.outputs] == [22050]


def test_without_fusing_again_the_components_are_what_they_were() -> None:
    assert read(DECODER)[0].parts == read()[0].parts


def test_a_group_may_choose_for_all_its_members() -> None:
    spec, faults = read("fuse={decoder: {members: [mel_projection, vocoder], precision: fp16, gate: strict}}")
    assert faults == []
    (decoder,) = (c for c in spec.components if c.members)
    assert {c.precision.name for c in (decoder, *decoder.members)} == {"fp16"}
    assert {c.precision.name for c in spec.components if c is not decoder} == {"fp32"}


def test_what_a_group_asks_of_a_tool_goes_over_what_its_members_ask() -> None:
    """Option by option: what the group does not name stays as the vocoder has it."""
    group = (
        "{members: [mel_projection, vocoder], options: {tensorrt: {builder_optimization_level: 5}, onnxruntime: {}}}"
    )
    spec, faults = read(f"fuse={{decoder: {group}}}")
    assert faults == []
    (decoder,) = (c for c in spec.components if c.members)
    assert decoder.options == {"tensorrt": {"max_aux_streams": 2, "builder_optimization_level": 5}, "onnxruntime": {}}


def test_the_graph_of_the_shipped_tree_is_sound() -> None:
    graph = composed_graph(DECODER, "targets=[decoder]", "precision=int8")
    assert graph.outputs == ("audio_output",)
    assert [c.name for c in graph.components][-1] == "decoder"


@pytest.mark.parametrize(
    ("fuse", "expected"),
    [
        pytest.param("3", ["fuse: must be a mapping, got 3\n  fuse='{whole: [first, second]}'"], id="no_mapping"),
        pytest.param(
            "{d: vocoder}",
            ["fuse.d: must be a list of components, got 'vocoder'\n  fuse.d=[first, second]"],
            id="no_list",
        ),
        pytest.param(
            "{d: [mel_projection, vocdoer]}",
            [
                "fuse.d: unknown component 'vocdoer'\n  did you mean 'vocoder'? available: conditioner, "
                "content_encoder, flow_decoder, mel_projection, pitch_encoder, vocoder"
            ],
            id="unknown",
        ),
        pytest.param(
            "{d: [vocoder]}",
            [
                "fuse.d: needs two components or more, got vocoder\n  fuse.d=[first, second]; available: conditioner, "
                "content_encoder, flow_decoder, mel_projection, pitch_encoder, vocoder"
            ],
            id="one",
        ),
        pytest.param(
            "{vocoder: [mel_projection, vocoder]}",
            ["fuse.vocoder: there is a component 'vocoder' already\n  another name for the fused one"],
            id="taken",
        ),
        pytest.param(
            "{d: [mel_projection, vocoder], e: [flow_decoder, mel_projection]}",
            ["fuse.e: 'mel_projection' is in fuse.d too\n  a component is part of one engine"],
            id="in_two",
        ),
        pytest.param(
            "{d: [vocoder, mel_projection, vocoder]}",
            ["fuse.d: names 'vocoder' twice\n  a component is part of an engine once"],
            id="twice",
        ),
        pytest.param(
            "{9-d: [mel_projection, vocoder]}",
            ["fuse.9-d: '9-d' cannot name a file\n  use letters, digits and _"],
            id="name",
        ),
        pytest.param(
            "{d: {members: [mel_projection, vocoder], precison: fp16}}",
            [
                "fuse.d.precison: unknown key 'precison'\n  did you mean 'precision'? available: "
                "backend, calibration, gate, members, only_if_faster, options, precision"
            ],
            id="key",
        ),
        pytest.param(
            "{d: [flow_decoder, vocoder]}",
            [
                "fuse.d: mel_projection stands between flow_decoder and vocoder\n"
                "  fuse.d=[flow_decoder, mel_projection, vocoder], or leave one of the two out"
            ],
            id="between",
        ),
        pytest.param(
            "{d: [vocoder], e: [nothing, mel_projection]}",
            ["fuse.d: needs two components or more", "fuse.e: unknown component 'nothing'"],
            id="all_at_once",
        ),
    ],
)
def test_faults(fuse: str, expected: list[str]) -> None:
    found = faults_of(f"fuse={fuse}")
    assert [f if len(expected) == 1 else f[: len(e)] for f, e in zip(found, expected, strict=True)] == expected


def test_members_of_different_precision() -> None:
    found = faults_of(DECODER, "component.vocoder.precision=fp16")
    assert found == [
        "fuse.decoder: its members differ in precision: flow_decoder fp32, mel_projection fp32, vocoder fp16\n"
        "  {members: [flow_decoder, mel_projection, vocoder], precision: …} sets it for all, "
        "or component.<name>.precision"
    ]


def test_targets_name_engines() -> None:
    assert faults_of(DECODER, "targets=[vocoder,decodr,decoder]") == [
        "targets: 'vocoder' is part of the fused component 'decoder'\n  targets=[decoder], or fuse=null",
        "targets: unknown component 'decodr'\n"
        "  did you mean 'decoder'? available: conditioner, content_encoder, decoder, pitch_encoder",
    ]


def test_a_misspelt_key() -> None:
    with pytest.raises(AutovoiceError, match="did you mean 'fuse'"):
        compose(None, ["fues={}"])


def test_members_may_be_given_in_any_order() -> None:
    one: Any = read("fuse={d: [vocoder, flow_decoder, mel_projection]}")[0]
    assert one == read("fuse={d: [flow_decoder, mel_projection, vocoder]}")[0]
