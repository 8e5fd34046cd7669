import sys

import pytest
import torch
from torch import nn

from autovoice.errors import StepError
from autovoice.models.content_encoder import CnnContentEncoder, HubertContentEncoder
from autovoice.modules.weights import fold_weight_norm, load_checkpoint

TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "conv_dim": [32] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
AXES = {"input_audio": {0: "batch", 1: "samples"}, "sample_rate": {}}


def rate(hertz):
    return torch.tensor([hertz], dtype=torch.int32)


def feeds(batch, frames):
    return {"input_audio": 0.1 * torch.randn(batch, 320 * frames + 80), "sample_rate": rate(22050)}


@pytest.fixture(params=["cnn", "hubert"])
def encoder(request):
    return (CnnContentEncoder() if request.param == "cnn" else HubertContentEncoder(**TINY)).eval()


@pytest.mark.parametrize("samples", [400, 719, 720, 16000, 20001])
def test_frame_count(encoder, samples):
    features = encoder(torch.randn(2, samples), rate(16000))
    assert features.shape == (2, (samples - 80) // 320, 256)


def test_features_are_of_order_one(encoder):
    features = encoder(0.1 * torch.randn(2, 16000), rate(16000))
    assert 0.5 < features.std() < 2
    assert features.std(1).mean() > 0.1  # they move with the audio


def test_sample_rate_changes_the_features(encoder):
    audio = torch.randn(1, 4000)
    nominal, half, double = (encoder(audio, rate(hertz)) for hertz in (16000, 8000, 32000))
    assert (nominal - half).abs().mean() > 0.05
    torch.testing.assert_close(half + double, 2 * nominal, atol=1e-5, rtol=1e-4)  # linear in octaves


@pytest.mark.parametrize("hertz", [8000, 11025, 22050, 44100, 192000])
def test_sample_rate_fits_half_precision(encoder, hertz):
    features = encoder.rate(torch.ones(1, 1, 256, dtype=torch.half), rate(hertz))
    assert features.isfinite().all()


def test_export(encoder, check_export):
    hubert = isinstance(encoder, HubertContentEncoder)
    fold_weight_norm(encoder)
    allowed = frozenset({"InstanceNormalization"} if hubert else ())  # base checkpoints are trained with it
    check_export(encoder, feeds, AXES, "content_features", allowed=allowed)


def test_cnn_size(parameters):
    assert parameters(CnnContentEncoder()) == 809_256


def test_cnn_features_of_a_chunk_are_those_of_the_file():
    encoder, audio = CnnContentEncoder().eval(), torch.randn(1, 16000)
    whole = encoder(audio, rate(16000))
    chunk = encoder(audio[:, 3200 : 3200 + 400 + 9 * 320], rate(16000))
    torch.testing.assert_close(chunk, whole[:, 10:20], atol=1e-5, rtol=1e-4)


def test_cnn_kernels_and_strides_pair_up():
    with pytest.raises(ValueError, match="must pair up, got 2 and 1"):
        CnnContentEncoder(kernels=[10, 3], strides=[5])


def test_hubert_without_transformers(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(StepError) as raised:
        HubertContentEncoder()
    assert "needs the package transformers" in raised.value.fact
    assert "pip install 'autovoice[hubert]'" in raised.value.fix


@pytest.mark.parametrize("fold_first", [True, False])
def test_hubert_checkpoint_of_the_older_weight_norm_form(tmp_path, fold_first):
    trained = HubertContentEncoder(**TINY).hubert.eval()
    conv = "encoder.pos_conv_embed.conv"
    respelled = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): value
        for name, value in trained.state_dict().items()
    }
    assert respelled[f"{conv}.weight_g"].shape == (1, 1, 16)  # one magnitude a tap, not a channel
    torch.save(respelled, tmp_path / "hubert.pt")
    fresh = HubertContentEncoder(**TINY).hubert.eval()
    if fold_first:
        assert fold_weight_norm(fresh) == 1
    load_checkpoint(fresh, tmp_path / "hubert.pt")
    audio = torch.randn(1, 4000)
    expected = trained(audio).last_hidden_state
    torch.testing.assert_close(fresh(audio).last_hidden_state, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_hubert_base(check_export, parameters):
    encoder = HubertContentEncoder()
    assert parameters(encoder.hubert) == 94_371_712
    names = set(dict(encoder.named_parameters()))
    assert {
        "hubert.feature_extractor.conv_layers.0.conv.weight",
        "hubert.feature_projection.projection.weight",
        "hubert.encoder.layers.11.attention.q_proj.weight",
        "hubert.encoder.layers.11.feed_forward.output_dense.bias",
        "proj.weight",
        "proj.bias",
    } <= names
    assert isinstance(encoder.proj, nn.Linear)
    assert encoder.proj.weight.shape == (256, 768)
    fold_weight_norm(encoder)
    check_export(encoder, feeds, AXES, "content_features", ((1, 40),), allowed=frozenset({"InstanceNormalization"}))
