"""Content encoders: 16 kHz audio to what is sung, without who sings it, at 50 frames a second."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from autovoice.errors import StepError
from autovoice.models.layers import RateModulation, scaled_normal_

# The convolutional front end of wav2vec 2.0 (arXiv:2006.11477, section 2): hop 320, receptive field 400.
KERNELS = (10, 3, 3, 3, 3, 2, 2)
STRIDES = (5, 2, 2, 2, 2, 2, 2)


class CnnContentEncoder(nn.Module):
    """Strided convolutions, each followed by LayerNorm over channels and GELU; about 0.8 M parameters.

    Every frame is normalised by itself, so a chunk and the whole file give the same features.
    """

    def __init__(
        self,
        channels: int = 216,
        features: int = 256,
        kernels: Sequence[int] = KERNELS,
        strides: Sequence[int] = STRIDES,
    ) -> None:
        super().__init__()
        if len(kernels) != len(strides):
            raise ValueError(f"kernels and strides must pair up, got {len(kernels)} and {len(strides)}")
        widths = [1] + [channels] * len(kernels)
        self.convs = nn.ModuleList(
            nn.Conv1d(before, after, kernel, stride)
            for (before, after), kernel, stride in zip(pairwise(widths), kernels, strides, strict=True)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in kernels)
        self.proj = nn.Linear(channels, features)
        self.rate = RateModulation(features)
        for conv in self.convs:
            scaled_normal_(conv)
        scaled_normal_(self.proj, gain=1.5)  # E[gelu(x)²] of a unit normal is 0.43

    def forward(self, input_audio: Tensor, sample_rate: Tensor) -> Tensor:
        """[B, samples] at 16 kHz, int32 [1] → [B, (samples - 80) // 320, features]; needs 400 samples."""
        x = input_audio.unsqueeze(1)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.gelu(norm(conv(x).transpose(1, 2))).transpose(1, 2)
        return self.rate(self.proj(x.transpose(1, 2)), sample_rate)


class HubertContentEncoder(nn.Module):
    """HuBERT (arXiv:2106.07447) and a linear projection; `config` goes to `transformers.HubertConfig`.

    The base configuration by default, 94 M parameters, randomly initialised: nothing is downloaded.
    Base checkpoints normalise the first convolution over the whole recording (`feat_extract_norm`), so
    features of a chunk differ from those of the file around it.
    """

    def __init__(self, features: int = 256, **config: Any) -> None:
        super().__init__()
        try:
            from transformers import HubertConfig, HubertModel
        except ImportError as error:
            raise StepError(
                f"HubertContentEncoder needs the package transformers, which cannot be imported: {error}",
                "pip install 'autovoice[hubert]', or choose a content encoder that does without it",
            ) from error
        # Fused attention turns into the operator `Attention` from opset 23 on, which few backends parse.
        settings = HubertConfig(**{"attn_implementation": "eager", **config})
        self.hubert = HubertModel(settings)
        self.proj = nn.Linear(settings.hidden_size, features)
        self.rate = RateModulation(features)
        scaled_normal_(self.proj)

    def forward(self, input_audio: Tensor, sample_rate: Tensor) -> Tensor:
        """[B, samples] at 16 kHz, int32 [1] → [B, (samples - 80) // 320, features]; needs 400 samples."""
        # No attention mask: its export selects by boolean index, whose length only the data decides.
        hidden = self.hubert(input_audio).last_hidden_state
        return self.rate(self.proj(hidden), sample_rate)
