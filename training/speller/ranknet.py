"""The reranker's network: a perceptron over each reading's features, softmax over a query's readings, calibrated afterwards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

HIDDEN = 48
EPOCHS = 60
BATCH = 256
HELD_OUT = 0.2

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Net:
    """(weight [in, out], bias [out]) of each layer, and the softmax temperature."""

    layers: list[tuple[Matrix, Matrix]]
    temperature: float


def fit_net(matrices: list[Matrix], targets: list[int], seed: int) -> tuple[Net, str]:
    """Listwise fit (softmax cross-entropy) on four fifths of the queries, temperature on the rest.

    Args:
        matrices: [readings, features] of each query.
        targets: the right reading's row.

    Returns:
        The network, and a line with the held-out share of right choices and the expected calibration error.
    """
    x, mask = _padded(matrices)
    y = torch.tensor(targets)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    held, train = order[: int(len(y) * HELD_OUT)], order[int(len(y) * HELD_OUT) :]
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(x.shape[-1], HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, 1))
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)

    def logits(rows: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = net(x[rows]).squeeze(-1).masked_fill(~mask[rows], -1e9)
        return scores

    for _ in range(EPOCHS):
        for rows in train[torch.randperm(len(train))].split(BATCH):
            loss = torch.nn.functional.cross_entropy(logits(rows), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    with torch.no_grad():
        temperature, figures = _calibrate(logits(held), y[held])
    layers = [(m.weight.detach().numpy().T, m.bias.detach().numpy()) for m in net if isinstance(m, torch.nn.Linear)]
    return Net(layers, temperature), f"{len(train):,} queries fitted, {len(held):,} held out: {figures}"


def _padded(matrices: list[Matrix]) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.zeros(len(matrices), max(map(len, matrices)), matrices[0].shape[1])
    mask = torch.zeros(x.shape[:2], dtype=torch.bool)
    for i, matrix in enumerate(matrices):
        x[i, : len(matrix)] = torch.from_numpy(matrix)
        mask[i, : len(matrix)] = True
    return x, mask


def _calibrate(logits: torch.Tensor, targets: torch.Tensor) -> tuple[float, str]:
    """The temperature of least cross-entropy (Guo et al. 2017, §4.2), and what it gives."""
    tried = np.linspace(0.6, 2.5, 39)
    losses = [float(torch.nn.functional.cross_entropy(logits / t, targets)) for t in tried]
    temperature = float(tried[int(np.argmin(losses))])
    confidence, choice = (logits / temperature).softmax(-1).max(-1)
    right = (choice == targets).float()
    bins = (confidence * 10).long().clamp(max=9)
    error = sum(float((confidence[bins == b].sum() - right[bins == b].sum()).abs()) for b in range(10)) / len(targets)
    return temperature, f"right {right.mean():.1%}, calibration error {error:.3f}, T {temperature:.2f}"
