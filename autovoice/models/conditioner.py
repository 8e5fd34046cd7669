"""Conditioner: content, pitch and speaker on one frame clock, stacked for the flow."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Conditioner(nn.Module):
    """Glue without parameters, exported like any component so that the pipeline stays on the device."""

    def forward(self, content_features: Tensor, pitch_features: Tensor, speaker_embedding: Tensor) -> Tensor:
        """[B, content_frames, 256], [B, frames, 192], [B, 256] → [B, 704, frames].

        Channels are content, pitch, speaker, in that order; the pitch's clock is the output's.
        """
        frames = pitch_features.shape[1]
        content = resample_frames(content_features, pitch_features)
        speaker = speaker_embedding.unsqueeze(2).expand(-1, -1, frames)
        return torch.cat((content.transpose(1, 2), pitch_features.transpose(1, 2), speaker), dim=1)


def resample_frames(features: Tensor, clock: Tensor) -> Tensor:
    """[B, n, C] → [B, T, C] with T of `clock` [B, T, …], linear between frame centres, ends held.

    Output frame t stands at (t + 1/2) n / T - 1/2 on the input's axis. That position times 2T is an
    integer, so the neighbours are found without rounding whatever the precision of the features;
    interpolation operators compute it in the features' own precision, where half is too coarse.
    """
    count, frames = features.shape[1], clock.shape[1]
    ticks = 2 * frames  # of one input frame
    odd = 2 * torch.arange(frames, device=features.device) + 1
    position = (odd * count - frames).clamp(min=0)
    left = position // ticks
    right = (left + 1).clamp(max=count - 1)
    weight = ((position - left * ticks) / ticks).to(features.dtype).unsqueeze(1)
    start = features.index_select(1, left)
    return start + (features.index_select(1, right) - start) * weight
