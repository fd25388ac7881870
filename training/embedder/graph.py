"""BERT as an ONNX graph for CPUs computes it: no padding in the layers (`training/packed.py`), pooled, of unit length."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.packed import Layer, barred, packing, stacked

# Model types whose layers are named as BERT's, and whether their positions count from the padding's id on.
ALIKE = {"bert": False, "roberta": True, "xlm-roberta": True, "camembert": True}


def is_alike(encoder: nn.Module) -> bool:
    """Whether `PackedBert` knows how to compute this model: BERT's layers, absolute positions, embeddings of full width."""
    config = encoder.config
    return (
        config.model_type in ALIKE
        and getattr(config, "position_embedding_type", "absolute") == "absolute"
        and not getattr(config, "is_decoder", False)
        and not getattr(config, "add_cross_attention", False)
    )


def bert_layer(layer: nn.Module, heads: int) -> Layer:
    """One layer of a `BertModel`."""
    projections, after, feed = layer.attention.self, layer.attention.output, layer.output
    scale = (projections.query.out_features // heads) ** -0.5
    return Layer(
        heads=heads,
        pre_norm=False,
        qkv=stacked(projections.query, projections.key, projections.value, scale=scale),
        out=after.dense,
        norm=after.LayerNorm,
        fc1=layer.intermediate.dense,
        activation=layer.intermediate.intermediate_act_fn,
        fc2=feed.dense,
        last_norm=feed.LayerNorm,
    )


class PackedBert(nn.Module):
    """input_ids, attention_mask [b, s] int64 → embedding [b, d_model], the same numbers as the model's own forward gives.

    Args:
        encoder: a model for which `is_alike` holds.
        pooling: ``mean`` of the token states, or ``cls``, the state of the first token.
    """

    def __init__(self, encoder: nn.Module, pooling: str = "mean") -> None:
        super().__init__()
        self.pooling = pooling
        stem = encoder.embeddings
        self.words, self.norm = stem.word_embeddings, stem.LayerNorm
        first = stem.padding_idx + 1 if ALIKE[encoder.config.model_type] else 0
        # A query is one segment: its type is added to the positions once and for all.
        self.positions = nn.Parameter(stem.position_embeddings.weight.data[first:] + stem.token_type_embeddings.weight.data[0])
        heads = encoder.config.num_attention_heads
        self.layers = nn.ModuleList(bert_layer(layer, heads) for layer in encoder.encoder.layer)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        shape = input_ids.shape
        position = torch.arange(shape[1]).expand(shape)
        live = torch.logical_or(attention_mask > 0, position == 0).flatten()  # a row of padding alone keeps one token
        slots, at = packing(live, packed=True)
        bias = barred(attention_mask)[:, None, None, :]
        place = position.flatten().index_select(0, slots)
        x = self.norm(self.words(input_ids.flatten().index_select(0, slots)) + self.positions[place])
        for layer in self.layers:
            x = layer.residual(x, layer.norm, lambda h, layer=layer: layer.attention(h, shape, at, slots, bias))
            x = layer.feed_forward(x)
        states = x.index_select(0, at).reshape(*shape, -1)
        if self.pooling == "cls":
            sentence = states[:, 0]
        else:
            weight = attention_mask.unsqueeze(-1).to(states.dtype)
            sentence = (states * weight).sum(1) / weight.sum(1).clamp(min=1.0)
        return sentence / sentence.norm(dim=-1, keepdim=True).clamp(min=1e-12)
