"""The fitted core: prediction, storage, explanation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from connectome_tl.errors import DataError
from connectome_tl.training.closed_form.blocks import Block, Columns, matched, radial
from connectome_tl.training.closed_form.risks import RiskModel


@dataclass(frozen=True, eq=False)
class RadialPart:
    """Attributes:
    rows: (n_landmarks, n_columns) float32, clipped and centred.
    dual: (n_landmarks, n_outcomes). gamma: see `blocks.radial`.
    """

    rows: np.ndarray
    dual: np.ndarray
    gamma: float

    def of(self, rows: np.ndarray) -> np.ndarray:
        """(n_rows, n_outcomes) for clipped and centred rows."""
        return radial(rows, self.rows.astype(float), self.gamma) @ self.dual


@dataclass(frozen=True, eq=False)
class QuadraticPart:
    """Attributes:
    basis: (n_columns, n_components), from clipped and centred rows to the leading components c.
    products: (n_components, n_components, n_outcomes), the symmetric weights of c c'.
    """

    basis: np.ndarray
    products: np.ndarray

    def of(self, rows: np.ndarray) -> np.ndarray:
        """(n_rows, n_outcomes) for clipped and centred rows."""
        components = rows @ self.basis
        return np.einsum("ra,abo,rb->ro", components, self.products, components, optimize=True)


CurvedPart = RadialPart | QuadraticPart


@dataclass(frozen=True, eq=False)
class CoreFit:
    """Prediction = intercept + sum over blocks of (row @ weights) + radial and quadratic parts.

    Attributes:
        form: "exact", or how it was approximated ("nystrom 1500").
        kinds: (n_outcomes,) kinds of outcome.
        columns: clipping and centring per block.
        intercept: (n_outcomes,).
        linear: block to (n_block_columns, n_outcomes) weights on clipped, centred values.
        radial, quadratic: block to its radial and its quadratic part.
        lower, upper: (n_outcomes,) range of the training outcomes; infinite for labels.
        left_out: (n_rows, n_outcomes) predictions of the training rows without their family, NaN where the
            outcome is missing.
        steady: the same, centred at the mean of all rows. The mean of the other rows is negatively correlated with a
            row's outcome, which would reverse the ranking of a weak score. Used for risks and rankings of training
            rows.
        outcomes: (n_rows, n_outcomes), as given.
        sizes: (n_outcomes,) families with a known outcome.
        risks: the risk model of binary outcomes.
    """

    form: str
    kinds: tuple[str, ...]
    columns: tuple[Columns, ...]
    intercept: np.ndarray
    linear: dict[str, np.ndarray]
    radial: dict[str, RadialPart]
    quadratic: dict[str, QuadraticPart]
    lower: np.ndarray
    upper: np.ndarray
    left_out: np.ndarray
    steady: np.ndarray
    outcomes: np.ndarray
    sizes: np.ndarray
    risks: RiskModel

    def predict(self, blocks: Sequence[Block]) -> np.ndarray:
        """(n_rows, n_outcomes). Regressions in the outcome's unit, within the range of training.

        A binary outcome gives a score in the unit of its labels that ranks; its risk is `probabilities`.

        Raises:
            InternalError: other blocks than in training. DataError: other columns, or values not finite.
        """
        given = matched(blocks, [columns.name for columns in self.columns])
        n_rows = len(blocks[0].values) if blocks else 0
        total = np.broadcast_to(self.intercept, (n_rows, len(self.kinds))).copy()
        for columns in self.columns:
            rows = columns.apply(given[columns.name])
            if columns.name in self.linear:
                total += rows @ self.linear[columns.name]
            for part in self.curved(columns.name):
                total += part.of(rows)
        return np.clip(total, self.lower, self.upper)

    def curved(self, block: str) -> list[CurvedPart]:
        """The radial and the quadratic part of a block, where it has them."""
        return [part[block] for part in (self.radial, self.quadratic) if block in part]

    def probabilities(self, blocks: Sequence[Block]) -> np.ndarray:
        """(n_rows, n_outcomes) risks of binary outcomes inside (0, 1), NaN for the others."""
        return self.risks.apply(self.predict(blocks))

    def left_out_probabilities(self) -> np.ndarray:
        """The same of training rows, from scores that left out their family."""
        return self.risks.apply(self.steady)

    def brier(self) -> tuple[np.ndarray, np.ndarray]:
        """Left-out Brier score per outcome, and that of the other rows' base rate; NaN where not binary."""
        n = np.isfinite(self.outcomes).sum(axis=0)
        others = (np.nansum(self.outcomes, axis=0) - self.outcomes) / np.maximum(n - 1, 1)
        binary = np.array([kind == "binary" for kind in self.kinds])
        ours, base = self.left_out_probabilities() - self.outcomes, others - self.outcomes
        found = [np.nansum(part**2, axis=0) / n for part in (ours, base)]
        return np.where(binary, found[0], np.nan), np.where(binary, found[1], np.nan)

    def weights(self) -> dict[str, np.ndarray]:
        """Block to (n_block_columns, n_outcomes): change of the prediction per unit of a column, on clipped
        values.

        Radial and quadratic parts have no weights; `curved` returns them.
        """
        return {name: values.copy() for name, values in self.linear.items()}

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays and plain values (for JSON) from which `of` makes a fit with the same predictions, bit by bit."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        for columns in self.columns:
            for name in ("center", "lower", "upper"):
                arrays[f"columns.{columns.name}.{name}"] = getattr(columns, name)
        arrays |= {f"linear.{name}": values for name, values in self.linear.items()}
        for name, part in self.radial.items():
            arrays |= {f"radial.{name}.rows": part.rows, f"radial.{name}.dual": part.dual}
        for name, products in self.quadratic.items():
            arrays |= {f"quadratic.{name}.basis": products.basis, f"quadratic.{name}.products": products.products}
        arrays |= {f"risks.{field.name}": getattr(self.risks, field.name) for field in fields(RiskModel)}
        plain = {
            "form": self.form,
            "kinds": list(self.kinds),
            "blocks": [columns.name for columns in self.columns],
            "gamma": {name: part.gamma for name, part in self.radial.items()},
            "quadratic": list(self.quadratic),
        }
        return arrays, plain

    @staticmethod
    def of(arrays: dict[str, np.ndarray], plain: dict[str, Any]) -> CoreFit:
        """The inverse of `state`.

        Raises:
            DataError: an array is missing.
        """
        try:
            return CoreFit(
                form=str(plain["form"]),
                kinds=tuple(plain["kinds"]),
                columns=tuple(
                    Columns(name, *(arrays[f"columns.{name}.{part}"] for part in ("center", "lower", "upper")))
                    for name in plain["blocks"]
                ),
                linear={n: arrays[f"linear.{n}"] for n in plain["blocks"] if f"linear.{n}" in arrays},
                radial={
                    name: RadialPart(arrays[f"radial.{name}.rows"], arrays[f"radial.{name}.dual"], float(gamma))
                    for name, gamma in plain["gamma"].items()
                },
                quadratic={
                    name: QuadraticPart(arrays[f"quadratic.{name}.basis"], arrays[f"quadratic.{name}.products"])
                    for name in plain["quadratic"]
                },
                risks=RiskModel(*(arrays[f"risks.{field.name}"] for field in fields(RiskModel))),
                **{name: arrays[name] for name in _ARRAYS},
            )
        except KeyError as error:
            raise DataError("a stored core lacks a part", expected=str(error.args[0])) from error


_ARRAYS = ("intercept", "lower", "upper", "left_out", "steady", "outcomes", "sizes")
