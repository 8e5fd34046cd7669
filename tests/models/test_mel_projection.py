import pytest
import torch

from autovoice.models.mel_projection import MelProjection


def feeds(batch, frames):
    return {"latent_input": torch.randn(batch, 192, frames)}


@pytest.mark.parametrize(("batch", "frames"), [(1, 1), (2, 16), (3, 301)])
def test_shape(batch, frames):
    assert MelProjection().eval()(*feeds(batch, frames).values()).shape == (batch, 80, frames)


def test_size(parameters):
    assert parameters(MelProjection()) == 1_447_760


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_output_looks_like_log_mel(seed):
    torch.manual_seed(seed)
    mel = MelProjection().eval()(*feeds(2, 200).values())
    assert -5.5 < mel.mean() < -4.5
    assert 1.5 < mel.std() < 2.5


def test_export(check_export):
    check_export(MelProjection(), feeds, {"latent_input": {0: "batch", 2: "frames"}}, "mel_output")
