"""Run by `torchrun`: one optimiser step over two processes, and the same step over all their examples in one, compared.

    torchrun --nproc-per-node 2 two_processes.py CATALOGUE OUT

Writes {drawn: texts of each process, difference: largest between gradients, size: largest gradient} to OUT/seen.json.
"""

from __future__ import annotations

import copy
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from training import corpus as corpora
from training.loop import Loop
from training.run import accelerator
from training.speller.batches import collate
from training.speller.train import Speller, new, preset

catalogue, out = Path(sys.argv[1]), Path(sys.argv[2])
run = preset("tiny", max_steps=1, batch_size=32, micro_batch=8, precision="no", probes=1, clip=1e9)
made = accelerator(run)
corpus = corpora.load([catalogue])
out.mkdir(exist_ok=True)
model, tokenizer = new(corpus, run, out, made)
before = copy.deepcopy(model)
loop = Loop(Speller(model, tokenizer, corpus, run), run, out, made, None)
drawn: list[dict[str, torch.Tensor]] = []
gradients: dict[str, torch.Tensor] = {}


def recorded(stream: Any) -> Any:
    for batch in stream:
        drawn.append(batch)
        yield batch


loop.stream = recorded(loop.stream)
step = loop.optimizer.step


def observed() -> None:
    gradients.update({name: p.grad.clone() for name, p in model.named_parameters()})
    step()


loop.optimizer.step = observed
loop.train()

texts = [tokenizer.batch_decode(batch["input_ids"], skip_special_tokens=True) for batch in drawn]
everywhere: list[Any] = [None, None]
distributed.all_gather_object(everywhere, [text for batch in texts for text in batch])
if made.is_main_process:
    # The copy phase has not ended: what is typed is what is meant, so the texts alone are the examples.
    union = collate(tokenizer, *[[text.strip() for side in everywhere for text in side]] * 2)
    before(**union).loss.backward()
    expected = {name: p.grad for name, p in before.named_parameters()}
    facts = {
        "drawn": everywhere,
        "difference": max(float((gradients[name] - expected[name]).abs().max()) for name in expected),
        "size": max(float(g.abs().max()) for g in expected.values()),
    }
    (out / "seen.json").write_text(json.dumps(facts))
made.wait_for_everyone()
made.end_training()
os._exit(0)  # threads of the process group that still run would abort an orderly end, now and then
