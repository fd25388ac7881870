"""Shipping a checkpoint: the Hugging Face directory with its weights in float16."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

LEFT_OUT = {"state.pt", "README.md", "start", "onnx"}


def ship(checkpoint: Path, out: Path) -> None:
    """Copy `checkpoint` to `out`, weights as float16; transformers and sentence-transformers load it as any other.

    Raises:
        FileNotFoundError: `checkpoint` holds no `model.safetensors`.
    """
    weights = load_file(checkpoint / "model.safetensors")
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(checkpoint, out, ignore=lambda _, names: LEFT_OUT & set(names))
    half = {name: tensor.to(torch.float16) if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    save_file(half, out / "model.safetensors", metadata={"format": "pt"})
