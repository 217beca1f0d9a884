"""N-HiTS with a classification head.

Challu et al. (2022), "N-HiTS: Neural Hierarchical Interpolation for Time Series Forecasting", arXiv 2201.12886. Every
stack looks at what the stacks before it left unexplained, through a max-pool of its own rate (multi-rate sampling); an
MLP gives a few coefficients, which linear interpolation spreads over the 128 bars seen and the horizon ahead
(hierarchical interpolation: fewer coefficients where the pool is coarser); the part seen is subtracted (doubly
residual). Where the paper adds the stacks' forecasts to a series, ours reads all of them with one linear unit: the
label is a direction.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quantum_trader.core.features import SEQUENCE_LENGTH, SEQUENCE_NAMES
from quantum_trader.core.labels import HORIZON

RATES = (16, 4, 1)
"""Pool kernel of each stack, coarse to fine."""

BACK_KNOTS = (8, 32, 64)
AHEAD_KNOTS = (2, 4, 12)
HIDDEN = 128

_CHANNELS = len(SEQUENCE_NAMES)


def interpolation(knots: int, length: int) -> Tensor:
    """Linear interpolation from evenly spaced knots to `length` points as a matrix, shape (knots, length).

    A constant matrix, so that training, export and service add the same products in the same order.
    """
    return F.interpolate(torch.eye(knots).unsqueeze(0), size=length, mode="linear", align_corners=True)[0]


class Stack(nn.Module):
    """One rate: residual (B, 8, 128) to its backcast (B, 8, 128) and forecast (B, H)."""

    back: Tensor
    ahead: Tensor

    def __init__(self, rate: int, back_knots: int, ahead_knots: int, dropout: float) -> None:
        super().__init__()
        self.pool = nn.MaxPool1d(kernel_size=rate, stride=rate)
        self.mlp = nn.Sequential(
            nn.Linear(_CHANNELS * (SEQUENCE_LENGTH // rate), HIDDEN),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(),
        )
        self.theta_back = nn.Linear(HIDDEN, _CHANNELS * back_knots)
        self.theta_ahead = nn.Linear(HIDDEN, ahead_knots)
        self.register_buffer("back", interpolation(back_knots, SEQUENCE_LENGTH), persistent=False)
        self.register_buffer("ahead", interpolation(ahead_knots, HORIZON), persistent=False)

    def forward(self, residual: Tensor) -> tuple[Tensor, Tensor]:
        """Backcast and forecast of what is left."""
        hidden = self.mlp(self.pool(residual).flatten(1))
        back = self.theta_back(hidden).unflatten(1, (_CHANNELS, -1)) @ self.back
        return back, self.theta_ahead(hidden) @ self.ahead


class NHiTS(nn.Module):
    """Sequences (B, 128, 8) to logits of a rise (B,)."""

    def __init__(self, dropout: float = 0.4) -> None:
        super().__init__()
        shapes = zip(RATES, BACK_KNOTS, AHEAD_KNOTS, strict=True)
        self.stacks = nn.ModuleList(Stack(*shape, dropout) for shape in shapes)
        self.head = nn.Linear(len(RATES) * HORIZON, 1)

    def forward(self, sequences: Tensor) -> Tensor:
        """Logits of a batch, (B, 128, 8) to (B,)."""
        residual = sequences.transpose(1, 2)
        forecasts = []
        for stack in self.stacks:
            back, ahead = stack(residual)
            residual = residual - back
            forecasts.append(ahead)
        logits: Tensor = self.head(torch.cat(forecasts, dim=1)).squeeze(-1)
        return logits
