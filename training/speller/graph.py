"""BART-family encoder and decoder as ONNX graphs compute them: no padding in the layers, drafts as trees.

The modules hold the weights of a `BartForConditionalGeneration` (post-norm) or `MBartForConditionalGeneration` (pre-norm) and
give the same numbers as its own forward, with two differences in what is computed:

- Everything but attention runs on live tokens only, and q, k and v are one product (`training/packed.py`).
- A row of the decoder is a tree of drafts that share their beginnings, each node attending to its ancestors (SpecInfer,
  arXiv 2305.09781 §4): a prefix is computed once, and so are the cross-attention keys and values of its query.

`packed=False` computes padding too, for TensorRT.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.packed import Layer, attend, barred, by_head, packing, stacked

OFFSET = 2  # of BART's position table


class BartLayer(Layer):
    """What encoder and decoder layers share."""

    def __init__(self, layer: nn.Module, heads: int, pre_norm: bool) -> None:
        attention = layer.self_attn
        super().__init__(
            heads=heads,
            pre_norm=pre_norm,
            qkv=stacked(attention.q_proj, attention.k_proj, attention.v_proj, scale=attention.scaling),
            out=attention.out_proj,
            norm=layer.self_attn_layer_norm,
            fc1=layer.fc1,
            activation=layer.activation_fn,
            fc2=layer.fc2,
            last_norm=layer.final_layer_norm,
        )


class DecoderLayer(BartLayer):
    def __init__(self, layer: nn.Module, heads: int, pre_norm: bool) -> None:
        super().__init__(layer, heads, pre_norm)
        cross = layer.encoder_attn
        self.cross_q = stacked(cross.q_proj, scale=cross.scaling)
        self.cross_out, self.cross_norm = cross.out_proj, layer.encoder_attn_layer_norm

    def cross(
        self, x: Tensor, key: Tensor, value: Tensor, shape: tuple[Tensor | int, ...], at: Tensor, slots: Tensor, bias: Tensor
    ) -> Tensor:
        """Attention of live tokens `x` [n, d] to `key` and `value` [r, heads, s, d / heads]."""
        (q,) = by_head(self.cross_q(x).index_select(0, at).reshape(*shape, -1), 1, self.heads)
        return self.cross_out(attend(q, key, value, bias).flatten(0, 1).index_select(0, slots))


class Stem(nn.Module):
    """Token and position embedding of one half, and the norm after its last layer, which post-norm models lack."""

    def __init__(self, half: nn.Module) -> None:
        super().__init__()
        self.embed, self.positions, self.norm = half.embed_tokens, half.embed_positions.weight, half.layernorm_embedding
        self.pre_norm = hasattr(half, "layer_norm")
        self.last_norm = half.layer_norm if self.pre_norm else nn.Identity()

    def forward(self, ids: Tensor, positions: Tensor) -> Tensor:
        out: Tensor = self.norm(self.embed(ids) + self.positions[positions + OFFSET])
        return out


class Encoder(nn.Module):
    """input_ids, attention_mask [b, s] int64 → hidden [b, s, d_model]; what stands at padding is of no use to anybody."""

    def __init__(self, model: nn.Module, packed: bool = True) -> None:
        super().__init__()
        self.packed = packed
        half = model.get_encoder()
        self.stem = Stem(half)
        heads = model.config.encoder_attention_heads
        self.layers = nn.ModuleList(BartLayer(layer, heads, self.stem.pre_norm) for layer in half.layers)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        shape = input_ids.shape
        position = torch.arange(shape[1]).expand(shape)
        live = torch.logical_or(attention_mask > 0, position == 0).flatten()  # a row of padding alone keeps one token
        slots, at = packing(live, self.packed)
        bias = barred(attention_mask)[:, None, None, :]
        x = self.stem(input_ids.flatten().index_select(0, slots), position.flatten().index_select(0, slots))
        for layer in self.layers:
            x = layer.residual(x, layer.norm, lambda h, layer=layer: layer.attention(h, shape, at, slots, bias))
            x = layer.feed_forward(x)
        out: Tensor = self.stem.last_norm(x).index_select(0, at).reshape(*shape, -1)
        return out


class Decoder(nn.Module):
    """One pass over trees of drafts, a row of at most m nodes for each query asked; n nodes, e edges in all.

    hidden [b, s, d_model], attention_mask [b, s]: the encoder's; rows [r]: the encoder row of each tree
    visible [r, m, m] bool: which nodes of its row a node attends to: itself and its ancestors
    slots [n]: each node's place in [r · m], ascending; tokens [n]: decoder input; positions [n]: depth
    asked [q]: the nodes after which the next token is wanted
    edges [e]: one of those asked, by its place there; labels [e]: a token that may follow it
    → argmax [q] int64 after each node asked and its log-probability `best` [q]; logprob [e]: the labels'
    """

    def __init__(self, model: nn.Module, packed: bool = True) -> None:
        super().__init__()
        self.packed = packed
        half = model.get_decoder()
        self.stem = Stem(half)
        heads = model.config.decoder_attention_heads
        self.layers = nn.ModuleList(DecoderLayer(layer, heads, self.stem.pre_norm) for layer in half.layers)
        crosses = [layer.encoder_attn for layer in half.layers]
        self.memory = stacked(*(projection for cross in crosses for projection in (cross.k_proj, cross.v_proj)))
        head = model.get_output_embeddings()
        self.head = nn.Linear(head.in_features, head.out_features, bias=bool(model.final_logits_bias.any()))
        self.head.weight = head.weight
        if self.head.bias is not None:
            self.head.bias.data = model.final_logits_bias[0]

    def forward(
        self,
        hidden: Tensor,
        attention_mask: Tensor,
        rows: Tensor,
        visible: Tensor,
        slots: Tensor,
        tokens: Tensor,
        positions: Tensor,
        asked: Tensor,
        edges: Tensor,
        labels: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        shape = visible.shape[:2]
        places = torch.zeros_like(visible[:, :, 0], dtype=torch.int64).flatten()
        at = places.scatter(0, slots, torch.arange(slots.shape[0]))
        bias = barred(visible)[:, None]
        mask = attention_mask.index_select(0, rows)
        padding = barred(mask)[:, None, None, :]
        seen, place = packing(torch.logical_or(mask > 0, torch.arange(mask.shape[1]) == 0).flatten(), self.packed)
        memory = self.memory(hidden.index_select(0, rows).flatten(0, 1).index_select(0, seen))
        memory = memory.index_select(0, place).reshape(*mask.shape, -1)
        kept = by_head(memory, 2 * len(self.layers), self.layers[0].heads)  # key and value of the first layer, of the second, …
        x = self.stem(tokens, positions)
        for layer, key, value in zip(self.layers, kept[::2], kept[1::2], strict=True):
            x = layer.residual(x, layer.norm, lambda h, layer=layer: layer.attention(h, shape, at, slots, bias))
            x = layer.residual(
                x, layer.cross_norm, lambda h, layer=layer, k=key, v=value: layer.cross(h, k, v, shape, at, slots, padding)
            )
            x = layer.feed_forward(x)
        logits = self.head(self.stem.last_norm(x).index_select(0, asked))
        logprobs = logits.log_softmax(-1)  # ONNX Runtime's ReduceLogSumExp is four times slower
        argmax, best = peak(logprobs, self.head.out_features)
        return argmax, best, chosen(logprobs, edges, labels)


def peak(table: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Place [n] and value [n] of the greatest of each row of `table` [n, size], the first of equals.

    By blocks: ONNX Runtime's ArgMax looks at one value after the other, a greatest value it finds seven times as fast.
    """
    width = next(w for w in range(int(size**0.5), 0, -1) if size % w == 0)  # of a block
    blocks = table.reshape(-1, size // width, width)
    block = blocks.amax(-1).argmax(-1)
    first = torch.arange(table.shape[0]) * (size // width)
    found = blocks.flatten(0, 1).index_select(0, first + block)
    return block * width + found.argmax(-1), found.amax(-1)


def chosen(table: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """table[rows, columns]."""
    return table.flatten().index_select(0, rows * table.shape[1] + columns)
