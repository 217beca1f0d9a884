"""PatchTST as the production system lays it out: patches of all channels together, a transformer, one logit.

Patching after Nie et al. (2023), "A Time Series is Worth 64 Words", arXiv 2211.14730; unlike the paper the channels of
a patch are mixed into one token (8 tokens instead of 64, six times faster), and the head is a mean over tokens. The
names of the parameters are those of existing checkpoints, which can be imported.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
        tokens = self.patch_embedding(patches) + self.pos_encoding
        encode = self._encode_flat if torch.compiler.is_exporting() else self.transformer
        logits: Tensor = self.output_proj(encode(tokens).mean(dim=1)).squeeze(-1)
        return logits

    def _encode_flat(self, tokens: Tensor) -> Tensor:
        """What the transformer does in evaluation mode, (B, 8, 128) to (B, 8, 128), written out for the exporter.

        Out of `nn.TransformerEncoder` comes a graph that turns the tokens round at every layer and back again. Here
        they stay one matrix, a row a token, but for where they look at each other: a fifth of a batch's time less.
        """
        rows = tokens.reshape(-1, WIDTH)
        for layer in self.transformer.layers:
            rows = layer.norm1(rows + _attend(layer.self_attn, rows))
            rows = layer.norm2(rows + layer.linear2(F.relu(layer.linear1(rows))))
        return rows.reshape(-1, _PATCHES, WIDTH)


def _attend(attention: nn.MultiheadAttention, rows: Tensor) -> Tensor:
    """Attention among the tokens of each sequence, shape (B * 8, 128) to the same."""
    query, key, value = (
        F.linear(rows, attention.in_proj_weight[part], attention.in_proj_bias[part])
        .reshape(-1, _PATCHES, HEADS, WIDTH // HEADS)
        .transpose(1, 2)
        for part in (slice(WIDTH), slice(WIDTH, 2 * WIDTH), slice(2 * WIDTH, None))
    )
    shares = torch.softmax(query @ key.transpose(2, 3) / math.sqrt(WIDTH // HEADS), dim=-1)
    seen: Tensor = attention.out_proj((shares @ value).transpose(1, 2).reshape(-1, WIDTH))
    return seen
