"""The vocoder against the public parameter names and a functional rendering of the published generator."""

import pytest
import torch
from torch.nn import functional as F

from autovoice.models.vocoder import HifiganVocoder
from autovoice.modules.weights import load_checkpoint

HOP_512 = {"upsample_rates": [8, 8, 2, 2, 2], "upsample_kernel_sizes": [16, 16, 4, 4, 4]}
FORMS = {
    "hook": ("weight_g", "weight_v"),
    "parametrized": ("parametrizations.weight.original0", "parametrizations.weight.original1"),
}


def mel(batch, frames):
    return {"mel_input": 2 * torch.randn(batch, 80, frames) - 5}


def public_shapes(kernels=(16, 16, 4, 4), channels=512):
    """Weights of the public V1 generator; every one of them carries weight norm."""
    shapes = {"conv_pre": (channels, 80, 7)}
    for stage, kernel in enumerate(kernels):
        shapes[f"ups.{stage}"] = (channels, channels // 2, kernel)
        channels //= 2
        for kind, size in enumerate((3, 7, 11)):
            for pair in range(3):
                for convs in ("convs1", "convs2"):
                    shapes[f"resblocks.{3 * stage + kind}.{convs}.{pair}"] = (channels, channels, size)
    return {**shapes, "conv_post": (1, channels, 7)}


def outputs_of(name, shape):
    return shape[1] if name.startswith("ups.") else shape[0]


def public_checkpoint(form, shapes):
    """A random checkpoint with the public names, and the effective weights it stands for."""
    saved, effective = {}, {}
    for name, shape in shapes.items():
        g, v = 0.8 + 0.4 * torch.rand(shape[0], 1, 1), torch.randn(shape)
        bias = 0.1 * torch.randn(outputs_of(name, shape))
        saved |= {f"{name}.{suffix}": value for suffix, value in zip(FORMS[form], (g, v), strict=True)}
        saved[f"{name}.bias"] = bias
        effective[name] = torch._weight_norm(v, g, 0), bias
    return saved, effective


def generator_by_equations(weights, x, rates, kernels):
    x = F.conv1d(x, *weights["conv_pre"], padding=3)
    for stage, (rate, kernel) in enumerate(zip(rates, kernels, strict=True)):
        x = F.leaky_relu(x, 0.1)
        x = F.conv_transpose1d(x, *weights[f"ups.{stage}"], stride=rate, padding=(kernel - rate) // 2)
        total = 0
        for kind, size in enumerate((3, 7, 11)):
            y = x
            for pair, dilation in enumerate((1, 3, 5)):
                block = f"resblocks.{3 * stage + kind}"
                pad = dilation * (size - 1) // 2
                z = F.leaky_relu(y, 0.1)
                z = F.conv1d(z, *weights[f"{block}.convs1.{pair}"], dilation=dilation, padding=pad)
                z = F.leaky_relu(z, 0.1)
                y = y + F.conv1d(z, *weights[f"{block}.convs2.{pair}"], padding=size // 2)
            total = total + y
        x = total / 3
    return F.conv1d(F.leaky_relu(x, 0.01), *weights["conv_post"], padding=3).tanh()


@pytest.mark.parametrize("form", FORMS)
def test_public_checkpoint(form, tmp_path):
    saved, effective = public_checkpoint(form, public_shapes(channels=64))
    torch.save({"generator": saved}, tmp_path / "g_02500000")
    vocoder = HifiganVocoder(upsample_initial_channel=64).eval()
    load_checkpoint(vocoder, tmp_path / "g_02500000", key="generator")
    inputs = mel(2, 12)["mel_input"]
    expected = generator_by_equations(effective, inputs, (8, 8, 2, 2), (16, 16, 4, 4))
    assert 0.01 < expected.std() < 0.9
    torch.testing.assert_close(vocoder(inputs), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "kernels"), [({}, (16, 16, 4, 4)), (HOP_512, (16, 16, 4, 4, 4))], ids=["256", "512"]
)
def test_public_names_and_shapes(options, kernels):
    shapes = public_shapes(kernels)
    expected = {f"{name}.weight": shape for name, shape in shapes.items()}
    expected |= {f"{name}.bias": (outputs_of(name, shape),) for name, shape in shapes.items()}
    got = HifiganVocoder(**options).state_dict()
    assert {name: tuple(value.shape) for name, value in got.items()} == expected


def test_size(parameters):
    assert parameters(HifiganVocoder()) == 13_926_017


@pytest.mark.parametrize(("options", "hop"), [({}, 256), (HOP_512, 512)], ids=["256", "512"])
def test_length_is_hop_times_frames(options, hop):
    vocoder = HifiganVocoder(**options, upsample_initial_channel=64).eval()
    for batch, frames in ((1, 1), (2, 7), (1, 32)):
        assert vocoder(*mel(batch, frames).values()).shape == (batch, 1, hop * frames)


@pytest.mark.parametrize("channels", [128, 512])
@pytest.mark.parametrize("options", [{}, HOP_512], ids=["256", "512"])
def test_untrained_audio_is_neither_silent_nor_saturated(options, channels):
    audio = HifiganVocoder(**options, upsample_initial_channel=channels).eval()(*mel(1, 24).values())
    assert 0.05 < audio.square().mean().sqrt() < 0.3
    assert audio.abs().max() < 0.95
    assert audio.mean().abs() < 0.02


def test_audio_follows_the_mel():
    vocoder = HifiganVocoder().eval()
    assert (vocoder(*mel(1, 16).values()) - vocoder(*mel(1, 16).values())).square().mean().sqrt() > 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"upsample_rates": (8, 8, 2, 3)}, "kernel 4 must exceed its rate 3 by an even number"),
        ({"upsample_initial_channel": 24}, "24 cannot be halved 4 times"),
    ],
)
def test_sizes_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        HifiganVocoder(**options)


def test_export(check_export):
    vocoder = HifiganVocoder(upsample_initial_channel=32)
    check_export(vocoder, mel, {"mel_input": {0: "batch", 2: "frames"}}, "audio_output")
