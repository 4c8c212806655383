"""Small planted rows for tests of the closed-form core."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from connectome_tl.training.closed_form.blocks import Block, KernelKind


@dataclass(frozen=True)
class Case:
    wide: np.ndarray  # (n_rows, 60)
    narrow: np.ndarray  # (n_rows, 3)
    y: np.ndarray  # (n_rows, 2): a value and a label
    families: list[str]

    def blocks(self, rows: np.ndarray | slice = slice(None), kernel: KernelKind = "linear") -> list[Block]:
        wide = Block("tangent", self.wide[rows], kernel, relax=True)
        return [wide, Block("clinical", self.narrow[rows])]


def case(n_rows: int = 40, seed: int = 0, twins: bool = True) -> Case:
    """Rows whose value and label depend on both blocks; some families have two or three rows."""
    rng = np.random.default_rng(seed)
    wide, narrow = rng.normal(size=(n_rows, 60)), rng.normal(size=(n_rows, 3))
    signal = wide[:, :20].sum(axis=1) / 4 + narrow[:, 0]
    value = 100 + 15 * (signal + rng.normal(size=n_rows))
    label = (signal + rng.normal(size=n_rows) > 0).astype(float)
    order = rng.permutation(n_rows)
    families = [f"f{k}" for k in order]
    if twins:
        families = [f"f{k // 2 if k < 12 else k // 3 + 100 if k < 21 else k + 200}" for k in order]
    return Case(wide, narrow, np.column_stack([value, label]), families)


KINDS = ("regression", "binary")
