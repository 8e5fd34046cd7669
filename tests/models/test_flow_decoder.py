"""The flow against the public parameter names and a functional rendering of the published equations."""

import pytest
import torch
from torch.nn import functional as F

from autovoice.models.flow_decoder import FlowDecoder
from autovoice.modules.weights import load_checkpoint

AXES = {name: {0: "batch", 2: "frames"} for name in ("latent_input", "mask", "conditioning")}
FORMS = {
    "hook": ("weight_g", "weight_v"),
    "parametrized": ("parametrizations.weight.original0", "parametrizations.weight.original1"),
}


def feeds(batch, frames):
    mask = torch.ones(batch, 1, frames)
    mask[-1, :, frames - frames // 4 :] = 0  # the last item is shorter
    return {
        "latent_input": torch.randn(batch, 192, frames) * mask,
        "mask": mask,
        "conditioning": torch.randn(batch, 704, frames),
    }


def public_shapes():
    """Weights of the public VITS flow at 192 channels, kernel 5, 4 layers, 704 conditions: plain, normed."""
    plain, normed = {}, {}
    for flow in (0, 2, 4, 6):
        plain[f"flows.{flow}.pre"] = (192, 96, 1)
        plain[f"flows.{flow}.post"] = (96, 192, 1)
        normed[f"flows.{flow}.enc.cond_layer"] = (1536, 704, 1)
        for layer in range(4):
            normed[f"flows.{flow}.enc.in_layers.{layer}"] = (384, 192, 5)
            width = 192 if layer == 3 else 384
            normed[f"flows.{flow}.enc.res_skip_layers.{layer}"] = (width, 192, 1)
    return plain, normed


def public_checkpoint(form):
    """A random checkpoint with the public names, and the effective weights it stands for."""
    magnitude, direction = FORMS[form]
    saved, effective = {}, {}
    plain, normed = public_shapes()
    for name, shape in {**plain, **normed}.items():
        v = torch.randn(shape)
        bias = 0.1 * torch.randn(shape[0])
        saved[f"flow.{name}.bias"] = effective[f"{name}.bias"] = bias
        if name in plain:
            saved[f"flow.{name}.weight"] = effective[f"{name}.weight"] = v / shape[1] ** 0.5
            continue
        g = 0.5 + torch.rand(shape[0], 1, 1)
        saved[f"flow.{name}.{magnitude}"], saved[f"flow.{name}.{direction}"] = g, v
        effective[f"{name}.weight"] = torch._weight_norm(v, g, 0)
    return saved, effective


def conv(weights, name, x, **options):
    return F.conv1d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], **options)


def inverse_by_equations(weights, z, mask, conditioning):
    for flow in (6, 4, 2, 0):
        z = z.flip(1)
        first, second = z[:, :96], z[:, 96:]
        h = conv(weights, f"flows.{flow}.pre", first) * mask
        enc = f"flows.{flow}.enc"
        g = conv(weights, f"{enc}.cond_layer", conditioning)
        total = torch.zeros_like(h)
        for layer in range(4):
            a = conv(weights, f"{enc}.in_layers.{layer}", h, padding=2) + g[:, 384 * layer : 384 * (layer + 1)]
            rs = conv(weights, f"{enc}.res_skip_layers.{layer}", a[:, :192].tanh() * a[:, 192:].sigmoid())
            if layer < 3:
                h = (h + rs[:, :192]) * mask
            total = total + rs[:, -192:]
        mean = conv(weights, f"flows.{flow}.post", total * mask) * mask
        z = torch.cat((first, (second - mean) * mask), 1)
    return z


@pytest.mark.parametrize("form", FORMS)
def test_public_checkpoint(form, tmp_path):
    saved, effective = public_checkpoint(form)
    saved["dec.conv_pre.bias"] = torch.zeros(3)  # a whole VITS checkpoint holds other parts as well
    torch.save({"model": saved, "iteration": 3}, tmp_path / "G.pth")
    flow = FlowDecoder().eval()
    load_checkpoint(flow, tmp_path / "G.pth", key="model", prefix="flow.")
    inputs = feeds(2, 40)
    expected = inverse_by_equations(effective, *inputs.values())
    torch.testing.assert_close(flow(*inputs.values()), expected, atol=1e-4, rtol=1e-4)


def test_public_names_and_shapes():
    plain, normed = public_shapes()
    expected = {f"{name}.weight": shape for name, shape in {**plain, **normed}.items()}
    expected |= {f"{name}.bias": shape[:1] for name, shape in {**plain, **normed}.items()}
    assert {name: tuple(value.shape) for name, value in FlowDecoder().state_dict().items()} == expected


def test_size(parameters):
    assert parameters(FlowDecoder()) == 11_422_080


@pytest.mark.parametrize(("batch", "frames"), [(1, 1), (2, 16), (3, 101)])
def test_encode_undoes_the_inverse(batch, frames):
    flow, (latent, mask, conditioning) = FlowDecoder().eval(), feeds(batch, frames).values()
    decoded = flow(latent, mask, conditioning)
    assert decoded.shape == latent.shape
    torch.testing.assert_close(flow.encode(decoded, mask, conditioning), latent, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_untrained_flow_is_far_from_the_identity(seed):
    torch.manual_seed(seed)
    latent, mask, conditioning = feeds(1, 100).values()
    decoded = FlowDecoder().eval()(latent, mask, conditioning)
    assert (decoded - latent).square().mean().sqrt() > 0.3
    assert 0.7 < decoded[mask.expand_as(decoded) > 0].std() < 1.6


def test_conditioning_changes_the_output():
    flow, (latent, mask, conditioning) = FlowDecoder().eval(), feeds(1, 50).values()
    other = flow(latent, mask, conditioning.roll(1, 2))
    assert (flow(latent, mask, conditioning) - other).abs().mean() > 0.1


def test_padding_stays_zero_and_does_not_leak():
    flow, (latent, mask, conditioning) = FlowDecoder().eval(), feeds(1, 40).values()
    padded = flow(latent, mask, conditioning)
    alone = flow(latent[..., :30], mask[..., :30], conditioning[..., :30])
    assert padded[..., 30:].abs().max() == 0
    torch.testing.assert_close(padded[..., :30], alone, atol=1e-5, rtol=1e-4)


def test_odd_channels_are_refused():
    with pytest.raises(ValueError, match="odd number 191"):
        FlowDecoder(channels=191)


def test_export(check_export):
    check_export(FlowDecoder(n_flows=2, dilation_rate=2), feeds, AXES, "output_latent")
