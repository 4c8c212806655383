"""Branches: map the rows of one modality to an embedding; table of settings and branches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from connectome_tl.errors import InternalError
from connectome_tl.nn.voxel.convolutions import for_processors
from connectome_tl.settings.encoders import EncoderSettings


@dataclass(frozen=True)
class Encoded:
    """Embedding (batch, width) of a modality, and node features in consecutive parts of the batch, if any."""

    embedding: Tensor
    parts: tuple[Tensor, ...] = ()

    @property
    def nodes(self) -> Tensor | None:
        """(batch, n_nodes, n_channels), or None."""
        return torch.cat(self.parts) if self.parts else None

    def repeated(self, n: int) -> Encoded:
        """The only row of the batch, `n` times."""
        return Encoded(self.embedding.expand(n, -1), tuple(part.expand(n, -1, -1) for part in self.parts))


class Branch(nn.Module):
    """Base of all encoders.

    Attributes:
        width: of the embedding.
        atlas_bound: whether the weights depend on one set of regions in one order.
        skips_absent: whether subjects without the modality are left out. They are then not part of the statistics of a
            batch normalisation, and cost nothing.
    """

    width: int
    atlas_bound: bool = False
    skips_absent: bool = False

    def start(self, rows: Any) -> None:
        """Set initial weights from training rows that have the modality, in place, if a branch has such weights.

        Transferred weights replace them afterwards.
        """

    def prepared(self, rows: Any) -> Any:
        """Rows with precomputed results that do not depend on the weights, for rows that are used in many steps."""
        return rows

    def forward(self, rows: Any) -> Encoded:
        """Encode the rows of one modality, such as `ConnectomeRows`."""
        raise NotImplementedError


Sizes = Mapping[str, int]
"""Sizes of the modality that a branch needs, by name (`n_regions`, `n_measures`, `n_columns` ...)."""

BranchFactory = Callable[[Any, Sizes], Branch]
BRANCHES: dict[type[EncoderSettings], BranchFactory] = {}


def register_branch(settings: type[EncoderSettings], factory: BranchFactory) -> None:
    """Register the branch of a settings class."""
    BRANCHES[settings] = factory


def build_branch(settings: EncoderSettings, sizes: Sizes) -> Branch:
    """Build the branch of these settings with newly initialised weights.

    Raises:
        InternalError: no branch is registered for them.
    """
    if type(settings) not in BRANCHES:
        raise InternalError(f"no branch is registered for {type(settings).__name__}")
    branch = BRANCHES[type(settings)](settings, sizes)
    for_processors(branch)  # here, so that it also applies to convolutions of extensions
    return branch
