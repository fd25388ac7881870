"""Transformer layers as ONNX graphs for CPUs compute them: no padding but in attention.

Everything but attention runs on live tokens only, [n, d_model]; attention alone sees padded rows. In a mixed batch half of the
padded tokens are padding (effective transformer, ByteTransformer: arXiv 2210.03052). Query, key and value projections are one
product, the scaling folded into it.

With `packed=False` every token counts as live, for TensorRT: how many tokens are live is known only from the data, and an
engine with such a shape cannot become a CUDA graph; and what bars attention then fits fp16. The answers are the same
(tests/training).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

LEAST = torch.finfo(torch.float32).min
LEAST_FP16 = -1e4  # fp16 ends at -65504, and 0 × -inf is no number; e to the -1e4 is 0 in either precision


def stacked(*projections: nn.Linear, scale: float = 1.0) -> nn.Linear:
    """One projection for several over the same input; the first one's output times `scale`."""
    first, *others = projections
    out = nn.Linear(first.in_features, sum(p.out_features for p in projections))
    out.weight.data = torch.cat([first.weight.data * scale, *(p.weight.data for p in others)])
    out.bias.data = torch.cat([first.bias.data * scale, *(p.bias.data for p in others)])
    return out


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, heads: int) -> Tensor:
    """Scaled queries [r, m, d] over keys and values [r, s, d], `bias` [r, 1, m or 1, s] added to the scores → [r, m, d]."""
    rows, _, width = query.shape
    q, k, v = (x.reshape(rows, -1, heads, width // heads).transpose(1, 2) for x in (query, key, value))
    weights = torch.softmax(q @ k.transpose(2, 3) + bias, dim=-1)
    return (weights @ v).transpose(1, 2).reshape(rows, -1, width)


def barred(allowed: Tensor, packed: bool) -> Tensor:
    """The bias that keeps attention from what is not `allowed`; finite, so that a row with nothing allowed is no NaN."""
    return (1.0 - allowed.to(torch.float32)) * (LEAST if packed else LEAST_FP16)


def packing(live: Tensor, packed: bool) -> tuple[Tensor, Tensor]:
    """For `live` [r·m] bool, its first true: the places of the live tokens [n], and for each place its token [r·m].

    All count as live when not `packed`.
    """
    if not packed:
        every = torch.arange(live.shape[0])
        return every, every
    return live.nonzero().squeeze(1), live.to(torch.int64).cumsum(0) - 1


class Layer(nn.Module):
    """Self-attention and feed-forward block with their residuals, the norm before (`pre_norm`) or after each.

    Args:
        qkv: the three projections stacked, the query's scaled; `out`: the one after attention.
        norm, last_norm: of attention and of the feed-forward block.
    """

    def __init__(
        self,
        *,
        heads: int,
        pre_norm: bool,
        qkv: nn.Linear,
        out: nn.Linear,
        norm: nn.Module,
        fc1: nn.Linear,
        activation: nn.Module,
        fc2: nn.Linear,
        last_norm: nn.Module,
    ) -> None:
        super().__init__()
        self.heads, self.pre_norm = heads, pre_norm
        self.qkv, self.out, self.norm = qkv, out, norm
        self.fc1, self.activation, self.fc2, self.last_norm = fc1, activation, fc2, last_norm

    def attention(self, x: Tensor, shape: tuple[Tensor | int, ...], at: Tensor, slots: Tensor, bias: Tensor) -> Tensor:
        """Self-attention of live tokens `x` [n, d]: `at` [r·m] takes them to their places, `slots` [n] back."""
        q, k, v = self.qkv(x).index_select(0, at).reshape(*shape, -1).split(x.shape[-1], dim=-1)
        return self.out(attend(q, k, v, bias, self.heads).flatten(0, 1).index_select(0, slots))

    def residual(self, x: Tensor, norm: nn.Module, branch: object) -> Tensor:
        out: Tensor = x + branch(norm(x)) if self.pre_norm else norm(x + branch(x))  # type: ignore[operator]
        return out

    def feed_forward(self, x: Tensor) -> Tensor:
        return self.residual(x, self.last_norm, lambda h: self.fc2(self.activation(self.fc1(h))))
