import numpy as np
import pytest
import torch

from autovoice.models.pitch_encoder import PitchEncoder

AXES = {"f0_input": {0: "batch", 1: "frames"}, "voiced_mask": {0: "batch", 1: "frames"}}


def feeds(batch, frames):
    f0 = 60 + 1000 * torch.rand(batch, frames)
    return {"f0_input": f0, "voiced_mask": torch.rand(batch, frames) > 0.2}


@pytest.fixture
def encoder():
    return PitchEncoder().eval()


@pytest.mark.parametrize(("batch", "frames"), [(1, 1), (2, 16), (3, 301)])
def test_shape(encoder, batch, frames):
    assert encoder(*feeds(batch, frames).values()).shape == (batch, frames, 192)


def test_size(encoder, parameters):
    assert parameters(encoder) == 492_672


def test_bins_against_their_formula(encoder):
    f0 = np.linspace(51, 1099, 500)
    mel, low, high = (1127 * np.log(1 + hertz / 700) for hertz in (f0, 50, 1100))
    expected = np.rint((mel - low) * 254 / (high - low) + 1)
    got = encoder.pitch_bin(torch.tensor(f0[None]), torch.ones(1, 500, dtype=torch.bool))
    np.testing.assert_array_equal(got[0], expected)


@pytest.mark.parametrize(
    ("hertz", "voiced", "expected"),
    [
        (50, True, 1),
        (1100, True, 255),
        (5000, True, 255),
        (10, True, 1),
        (0, True, 1),
        (440, False, 0),
        (float("nan"), False, 0),
    ],
)
def test_bins_at_the_ends(encoder, hertz, voiced, expected):
    assert encoder.pitch_bin(torch.tensor([[float(hertz)]]), torch.tensor([[voiced]])).item() == expected


def test_unvoiced_frames_ignore_their_pitch(encoder):
    f0, voiced = feeds(1, 40).values()
    voiced[:] = False
    torch.testing.assert_close(encoder(f0, voiced), encoder(2 * f0, voiced))


def test_the_mask_itself_is_embedded(encoder):
    f0, voiced = torch.full((1, 40), 50.0), torch.ones(1, 40, dtype=torch.bool)
    encoder.emb_pitch.weight[0] = encoder.emb_pitch.weight[1]  # leaves the flag as the only difference
    assert (encoder(f0, voiced) - encoder(f0, ~voiced)).abs().mean() > 0.1


def test_pitch_changes_the_features(encoder):
    f0, voiced = feeds(1, 40).values()
    assert (encoder(f0, voiced) - encoder(f0 * 2 ** (1 / 12), voiced)).abs().mean() > 0.1


def test_features_are_of_order_one(encoder):
    assert 0.7 < encoder(*feeds(2, 100).values()).std() < 2


def test_export(encoder, check_export):
    check_export(encoder, feeds, AXES, "pitch_features")
