"""Transformer layers as ONNX graphs for CPUs compute them: no padding but in attention.

Everything but attention runs on live tokens only, [n, d_model]; attention alone sees padded rows. In a mixed batch half of the
padded tokens are padding (effective transformer, ByteTransformer: arXiv 2210.03052). Query, key and value projections are one
product, the scaling folded into it.

With `packed=False` every token counts as live, for TensorRT: how many tokens are live is known only from the data, and an
engine with such a shape cannot become a CUDA graph. The answers are the same (tests/training).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# What is added to the score of a place that must not be seen: e to the -60 is 1e-26, which no float32 sum of weights notices.
# Anything lower makes denormal weights, with which a softmax takes eleven times as long on a CPU (ADR 25).
BARRED = -60.0


def stacked(*projections: nn.Linear, scale: float = 1.0) -> nn.Linear:
    """One projection for several over the same input; the first one's output times `scale`."""
    first, *others = projections
    out = nn.Linear(first.in_features, sum(p.out_features for p in projections))
    out.weight.data = torch.cat([first.weight.data * scale, *(p.weight.data for p in others)])
    out.bias.data = torch.cat([first.bias.data * scale, *(p.bias.data for p in others)])
    return out


def by_head(x: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """`parts` projections beside each other, [r, m, parts · d] → each [r, heads, m, d / heads]: one copy for all."""
    rows, places, width = x.shape
    return x.reshape(rows, places, parts, heads, width // (parts * heads)).permute(2, 0, 3, 1, 4).unbind(0)


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Scaled queries over keys and values as `by_head` gives them, `bias` [r, 1, m or 1, s] added to the scores → [r, m, d]."""
    weights = torch.softmax(query @ key.transpose(2, 3) + bias, dim=-1)
    return (weights @ value).transpose(1, 2).flatten(2)


def barred(allowed: Tensor) -> Tensor:
    """The bias that keeps attention from what is not `allowed`; finite, so that a row with nothing allowed is no NaN."""
    return (1.0 - allowed.to(torch.float32)) * BARRED


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
        q, k, v = by_head(self.qkv(x).index_select(0, at).reshape(*shape, -1), 3, self.heads)
        return self.out(attend(q, k, v, bias).flatten(0, 1).index_select(0, slots))

    def residual(self, x: Tensor, norm: nn.Module, branch: object) -> Tensor:
        out: Tensor = x + branch(norm(x)) if self.pre_norm else norm(x + branch(x))  # type: ignore[operator]
        return out

    def feed_forward(self, x: Tensor) -> Tensor:
        return self.residual(x, self.last_norm, lambda h: self.fc2(self.activation(self.fc1(h))))
