"""A smaller network out of a trained one: some of its layers, which train on from where they are."""

from __future__ import annotations

from torch import nn

from app.errors import InvalidInput


def kept(layers: nn.ModuleList, count: int) -> nn.ModuleList:
    """`count` of `layers`, evenly spaced: the first, and the last where there are two or more.

    Raises:
        InvalidInput: there are not so many.
    """
    if not 1 <= count <= len(layers):
        raise InvalidInput(f"{count} of {len(layers)} layers cannot be kept: --init brings {len(layers)}")
    step = (len(layers) - 1) / max(count - 1, 1)
    chosen = nn.ModuleList(layers[round(at * step)] for at in range(count))
    for at, layer in enumerate(chosen):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):  # its place in a cache of keys and values
                module.layer_idx = at
    return chosen
