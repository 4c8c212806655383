"""Random batches, and models whose weights are all random, for every kind of encoder."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from connectome_tl.nn.batch import Batch, ClinicalRows, ConnectomeRows
from connectome_tl.nn.model import OutcomeModel, build_model
from connectome_tl.settings.model import ClinicalEncoder, FlatEncoder, GraphEncoder, ModelSettings

N, REGIONS, MEASURES, FEATURES, CLINICAL = 6, 7, 2, 2, 3
OF_CONNECTOME = {"n_regions": REGIONS, "n_measures": MEASURES, "n_features": FEATURES}
SIZES = {"connectome": OF_CONNECTOME, "clinical": {"n_columns": CLINICAL}}
HEADS = {"low": 1, "score": 1}
GRAPHS = [
    GraphEncoder(node_features=nodes, readout=readout, direct=direct, width=5, embedding=4, norm=norm)
    for nodes, readout, direct, norm in itertools.product(
        ("profile", "strength", "measures"), ("regional", "mean"), (True, False), ("layer", "none")
    )
]
FLATS = [FlatEncoder(widths=(6, 4), norm=norm, dropout=0.2) for norm in ("batch", "layer", "none")]
ENCODERS = [*GRAPHS, *FLATS]


def name(settings: GraphEncoder | FlatEncoder) -> str:
    if isinstance(settings, FlatEncoder):
        return f"flat-{settings.norm}"
    return f"{settings.node_features}-{settings.readout}-{'direct' if settings.direct else 'nodes'}-{settings.norm}"


def make_batch(*, dtype: torch.dtype = torch.float32, n: int = N, masked: bool = True) -> Batch:
    """Random rows as the features give them; some edges negative, some regions missing."""
    rng = np.random.default_rng(0)
    edges = rng.normal(size=(n, MEASURES, REGIONS, REGIONS)) * (rng.random((n, MEASURES, REGIONS, REGIONS)) < 0.7)
    edges = edges + edges.transpose(0, 1, 3, 2)
    mask = np.ones((n, REGIONS))
    if masked:
        mask[1, 2] = mask[2, [0, 6]] = 0
    present = mask[:, None, :, None] * mask[:, None, None, :] * (1 - np.eye(REGIONS))
    scale = rng.uniform(0.5, 2.0, (MEASURES, REGIONS, REGIONS))
    mean = rng.normal(size=(MEASURES, REGIONS, REGIONS))
    regional = rng.normal(size=(n, REGIONS, FEATURES)) * mask[:, :, None]
    arrays = (edges * present, regional, mask, mean + mean.transpose(0, 2, 1), scale + scale.transpose(0, 2, 1))
    connectome = ConnectomeRows(*(torch.from_numpy(a).to(dtype) for a in arrays))
    clinical = ClinicalRows(torch.from_numpy(rng.normal(size=(n, CLINICAL))).to(dtype))
    everybody = torch.ones(n, dtype=torch.bool)
    return Batch({"connectome": connectome, "clinical": clinical}, {"connectome": everybody, "clinical": everybody})


def model_settings(settings: GraphEncoder | FlatEncoder) -> ModelSettings:
    return ModelSettings(encoder=settings, clinical=ClinicalEncoder(width=3), fused_width=6, norm=settings.norm)


def make_model(settings: GraphEncoder | FlatEncoder, dtype: torch.dtype = torch.float32) -> OutcomeModel:
    """A model whose weights are all random: some start at zero on purpose, and would hide a fault."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = build_model(model_settings(settings), SIZES, HEADS)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    return model.to(dtype)
