"""Run in the training environment by test_export.py: exported fp32 graphs against transformers, on random weights.

Prints one JSON object for each model and sort of graph, packed for CPUs or not, for TensorRT: the largest differences of the
encoder's states and the decoder's log-probabilities.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from transformers import BartConfig, BartForConditionalGeneration, MBartConfig, MBartForConditionalGeneration

from training.speller.export import export_fp32

SHAPE = dict(
    vocab_size=120, d_model=32, encoder_layers=2, decoder_layers=2, encoder_ffn_dim=64, decoder_ffn_dim=64,
    encoder_attention_heads=4, decoder_attention_heads=4, max_position_embeddings=64, init_std=0.2, scale_embedding=True,
)  # fmt: skip
TEXTS = ([5, 6, 7, 8, 9, 2], [10, 11, 2, 1, 1, 1], [1, 1, 1, 1, 1, 1])  # the last is padding alone
# Trees by token: node → parent. The first has two drafts that part after two tokens, the second one draft, read from row 0.
TREES = (((2, 0), (20, 0), (21, 1), (22, 2), (23, 2), (24, 4)), ((2, 0), (30, 0), (31, 1)))
ROWS = (1, 0)


def paths(tree: tuple[tuple[int, int], ...]) -> list[list[int]]:
    """For each node the places of its ancestors and itself, from the root on."""
    found: list[list[int]] = [[0]]
    for node, (_, parent) in enumerate(tree[1:], 1):
        found.append([*found[parent], node])
    return found


def compare(model: torch.nn.Module, folder: Path, packed: bool) -> dict[str, float]:
    model.final_logits_bias.normal_()
    model.eval().save_pretrained(folder)
    encoder, decoder = (onnxruntime.InferenceSession(str(file)) for file in export_fp32(folder, folder / "onnx", packed))
    ids = np.array(TEXTS)
    mask = (ids != 1).astype(np.int64)
    (hidden,) = encoder.run(None, {"input_ids": ids, "attention_mask": mask})
    width = max(map(len, TREES))
    visible = np.zeros((len(TREES), width, width), np.bool_)
    nodes = [(row, place) for row, tree in enumerate(TREES) for place in range(len(tree))]
    for row, place in nodes:
        visible[row, place, paths(TREES[row])[place]] = True
    every = np.arange(len(nodes))
    feeds = {
        "hidden": hidden, "attention_mask": mask, "rows": np.array(ROWS), "visible": visible,
        "slots": np.array([row * width + place for row, place in nodes]),
        "tokens": np.array([TREES[row][place][0] for row, place in nodes]),
        "positions": np.array([len(paths(TREES[row])[place]) - 1 for row, place in nodes]),
        "asked": every[::-1].copy(), "edges": every, "labels": every + 3,
    }  # fmt: skip
    argmax, best, logprob = decoder.run(None, feeds)
    off = 0.0
    with torch.no_grad():
        expected = model.get_encoder()(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask)).last_hidden_state
        for at, (row, place) in enumerate(reversed(nodes)):
            prefix = torch.tensor([[TREES[row][n][0] for n in paths(TREES[row])[place]]])
            source = slice(ROWS[row], ROWS[row] + 1)
            given = {"input_ids": torch.tensor(ids[source]), "attention_mask": torch.tensor(mask[source])}
            scores = model(**given, decoder_input_ids=prefix).logits[0, -1].log_softmax(-1).numpy()
            assert argmax[at] == scores.argmax()
            off = max(off, abs(best[at] - scores.max()), abs(logprob[at] - scores[at + 3]))
    states = np.abs(expected.numpy() - hidden)[mask.astype(bool)].max()
    return {"states": float(states), "logprobs": float(off)}


def main(folder: Path) -> None:
    torch.manual_seed(0)
    for kind, model in (
        ("bart", BartForConditionalGeneration(BartConfig(**SHAPE))),
        ("mbart", MBartForConditionalGeneration(MBartConfig(**SHAPE))),
    ):
        for packed in (True, False):
            print(json.dumps({"model": kind, "packed": packed, **compare(model, folder / kind, packed)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
