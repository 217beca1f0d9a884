"""PatchTST as the production system lays it out: patches of all channels together, a transformer, one logit.

Patching after Nie et al. (2023), "A Time Series is Worth 64 Words", arXiv 2211.14730; unlike the paper the channels of
a patch are mixed into one token (8 tokens instead of 64, six times faster), and the head is a mean over tokens. The
names of the parameters are those of existing checkpoints, which can be imported.
"""

import torch
from torch import Tensor, nn

from quantum_trader.core.features import SEQUENCE_LENGTH, SEQUENCE_NAMES

PATCH = 16
WIDTH = 128
LAYERS = 3
HEADS = 4
PARAMETERS = 612_481
"""Trainable numbers: what tells this layout from another at one glance."""

_CHANNELS = len(SEQUENCE_NAMES)
_PATCHES = SEQUENCE_LENGTH // PATCH


class PatchTST(nn.Module):
    """Sequences (B, 128, 8) to logits of a rise (B,)."""

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.patch_embedding = nn.Linear(PATCH * _CHANNELS, WIDTH)
        self.pos_encoding = nn.Parameter(torch.randn(1, _PATCHES, WIDTH) * 0.02)
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, dim_feedforward=4 * WIDTH, dropout=dropout, activation="relu", batch_first=True
        )
        self.transformer = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.output_proj = nn.Linear(WIDTH, 1)

    def forward(self, sequences: Tensor) -> Tensor:
        """Logits of a batch, (B, 128, 8) to (B,)."""
        # A patch vector is 16 bars of 8 channels, bar after bar, as the memory lies.
        patches = sequences.reshape(-1, _PATCHES, PATCH * _CHANNELS)
        tokens = self.transformer(self.patch_embedding(patches) + self.pos_encoding)
        logits: Tensor = self.output_proj(tokens.mean(dim=1)).squeeze(-1)
        return logits
