"""Flow decoder: the inverse of the residual coupling flow of VITS, prior latent to spectral latent."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from autovoice.models.layers import scaled_normal_


class FlowDecoder(nn.Module):
    """Mean-only coupling layers with channel flips between (VITS, arXiv:2106.06103, section 2.5.1).

    11.4 M parameters as configured. Parameter names are those of public VITS checkpoints below `flow.`;
    flips hold the odd places of `flows`, so couplings are `flows.0`, `flows.2`, …
    """

    def __init__(
        self,
        channels: int = 192,
        hidden: int = 192,
        kernel_size: int = 5,
        dilation_rate: int = 1,
        n_layers: int = 4,
        n_flows: int = 4,
        conditioning: int = 704,
    ) -> None:
        super().__init__()
        self.flows = nn.ModuleList()
        for _ in range(n_flows):
            wavenet = WaveNet(hidden, kernel_size, dilation_rate, n_layers, conditioning)
            self.flows.extend((ResidualCoupling(channels, hidden, wavenet), Flip()))

    def forward(self, latent_input: Tensor, mask: Tensor, conditioning: Tensor) -> Tensor:
        """[B, channels, frames], [B, 1, frames], [B, conditioning, frames] → [B, channels, frames].

        Undoes `encode`. The mask is 1 on frames that exist and 0 on padding.
        """
        x = latent_input
        for flow in reversed(self.flows):
            x = flow(x, mask, conditioning, inverse=True)
        return x

    def encode(self, latent: Tensor, mask: Tensor, conditioning: Tensor) -> Tensor:
        """The direction of training, same shapes: spectral latent to prior latent."""
        x = latent
        for flow in self.flows:
            x = flow(x, mask, conditioning, inverse=False)
        return x


class Flip(nn.Module):
    """Reverses the channels, so that the next coupling changes the other half; its own inverse."""

    def forward(self, x: Tensor, mask: Tensor, conditioning: Tensor, inverse: bool) -> Tensor:
        return torch.flip(x, (1,))


class ResidualCoupling(nn.Module):
    """Shifts the second half of the channels by a function of the first."""

    def __init__(self, channels: int, hidden: int, wavenet: WaveNet) -> None:
        super().__init__()
        if channels % 2:
            raise ValueError(f"a coupling halves its channels, got the odd number {channels}")
        half = channels // 2
        self.pre = nn.Conv1d(half, hidden, 1)
        self.enc = wavenet
        self.post = nn.Conv1d(hidden, half, 1)
        scaled_normal_(self.pre)
        # Training starts `post` at zero, which makes the flow the identity and its parity vacuous.
        scaled_normal_(self.post, gain=0.5)

    def forward(self, x: Tensor, mask: Tensor, conditioning: Tensor, inverse: bool) -> Tensor:
        kept, moved = x.chunk(2, dim=1)
        shift = self.post(self.enc(self.pre(kept) * mask, mask, conditioning)) * mask
        moved = (moved - shift) * mask if inverse else shift + moved * mask
        return torch.cat((kept, moved), dim=1)


class WaveNet(nn.Module):
    """Dilated convolutions with a tanh·sigmoid gate, conditioned in every layer; output is the skip sum."""

    def __init__(self, hidden: int, kernel_size: int, dilation_rate: int, n_layers: int, conditioning: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.in_layers = nn.ModuleList()
        self.res_skip_layers = nn.ModuleList()
        for layer in range(n_layers):
            dilation = dilation_rate**layer
            padding = (kernel_size - 1) * dilation // 2
            self.in_layers.append(nn.Conv1d(hidden, 2 * hidden, kernel_size, dilation=dilation, padding=padding))
            # The last layer has nobody to hand a residual to.
            width = hidden if layer == n_layers - 1 else 2 * hidden
            self.res_skip_layers.append(nn.Conv1d(hidden, width, 1))
        self.cond_layer = nn.Conv1d(conditioning, 2 * hidden * n_layers, 1)
        for conv in (*self.in_layers, *self.res_skip_layers, self.cond_layer):
            scaled_normal_(conv)

    def forward(self, x: Tensor, mask: Tensor, conditioning: Tensor) -> Tensor:
        """[B, hidden, T], [B, 1, T], [B, conditioning, T] → [B, hidden, T]."""
        conditions = self.cond_layer(conditioning).chunk(len(self.in_layers), dim=1)
        skips: list[Tensor] = []
        for conv, res_skip, condition in zip(self.in_layers, self.res_skip_layers, conditions, strict=True):
            signal, gate = (conv(x) + condition).chunk(2, dim=1)
            out = res_skip(torch.tanh(signal) * torch.sigmoid(gate))
            if len(skips) < len(self.in_layers) - 1:
                residual, out = out.chunk(2, dim=1)
                x = (x + residual) * mask
            skips.append(out)
        return sum(skips[1:], start=skips[0]) * mask
