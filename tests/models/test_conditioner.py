import numpy as np
import pytest
import torch

from autovoice.models.conditioner import Conditioner

AXES = {
    "content_features": {0: "batch", 1: "content_frames"},
    "pitch_features": {0: "batch", 1: "frames"},
    "speaker_embedding": {0: "batch"},
}


def feeds(batch, frames, content_frames=None):
    return {
        "content_features": torch.randn(batch, content_frames or max(1, frames * 50 // 86), 256),
        "pitch_features": torch.randn(batch, frames, 192),
        "speaker_embedding": torch.randn(batch, 256),
    }


def interpolated(features, frames):
    """Half-pixel linear interpolation along axis 1 in float64."""
    count = features.shape[1]
    position = np.clip((np.arange(frames) + 0.5) * count / frames - 0.5, 0, count - 1)
    left = np.minimum(position.astype(int), max(count - 2, 0))
    weight = (position - left)[:, None]
    return features[:, left] * (1 - weight) + features[:, np.minimum(left + 1, count - 1)] * weight


@pytest.mark.parametrize(
    ("frames", "content_frames"),
    [(86, 50), (1, 1), (7, 1), (1, 9), (50, 50), (30, 200), (4096, 2378), (2000, 1161)],
)
def test_content_is_interpolated_between_frame_centres(frames, content_frames):
    inputs = feeds(2, frames, content_frames)
    got = Conditioner()(*inputs.values())
    assert got.shape == (2, 704, frames)
    expected = interpolated(inputs["content_features"].double().numpy(), frames).transpose(0, 2, 1)
    np.testing.assert_allclose(got[:, :256], expected, atol=2e-6)


def test_order_of_the_channels():
    inputs = feeds(2, 10)
    got = Conditioner()(*inputs.values())
    torch.testing.assert_close(got[:, 256:448], inputs["pitch_features"].transpose(1, 2))
    torch.testing.assert_close(got[:, 448:], inputs["speaker_embedding"][:, :, None].expand(-1, -1, 10))


def test_half_precision_keeps_the_clock():
    inputs = feeds(1, 4000)
    expected = Conditioner()(*inputs.values())
    got = Conditioner()(*(value.half() for value in inputs.values())).float()
    noise = (got - expected)[:, :256].square().mean() / expected[:, :256].square().mean()
    assert -10 * torch.log10(noise) > 65


def test_it_has_no_parameters(parameters):
    assert parameters(Conditioner()) == 0


def test_export(check_export):
    sizes = (1, 2), (3, 77), (1, 2048)
    check_export(Conditioner(), feeds, AXES, "conditioning", sizes)
