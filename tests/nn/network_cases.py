"""Random batches, and models whose weights are all random, for every kind of encoder."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from connectome_tl.nn.batch import Batch, ClinicalRows, ConnectomeRows
from connectome_tl.nn.encoders.graph import LAYERS
from connectome_tl.nn.model import OutcomeModel, build_model
from connectome_tl.settings.encoders import (
    BrainNetEncoder,
    ClinicalEncoder,
    ComponentsEncoder,
    DirectSettings,
    DualEncoder,
    EncoderSettings,
    FlatEncoder,
    GraphEncoder,
    LowRankEncoder,
    MessageSettings,
)
from connectome_tl.settings.model import ModelSettings

N, REGIONS, MEASURES, FEATURES, CLINICAL, PLACES = 6, 7, 2, 2, 3, 5
OF_CONNECTOME = {"n_regions": REGIONS, "n_measures": MEASURES, "n_features": FEATURES, "n_places": PLACES}
SIZES = {"connectome": OF_CONNECTOME, "clinical": {"n_columns": CLINICAL}}
HEADS = {"low": 1, "score": 1}
SMALL = {"width": 6, "embedding": 4}
GRAPHS = [
    GraphEncoder(node_features=nodes, readout=readout, direct=direct, norm=norm, **SMALL)
    for nodes, readout, direct, norm in itertools.product(
        ("profile", "strength", "measures"), ("regional", "mean"), (True, False), ("layer", "none")
    )
]
FREE = {"direct": False, "dropout": 0.0, **SMALL}
"""Of an encoder whose weights do not depend on the atlas, where `node_features` and `readout` do not either."""
ATLAS_FREE = [
    kind(node_features="identity", readout=readout, walk=walk, clusters=3, **FREE)
    for kind in LAYERS
    for readout, walk in (("attention", 3), ("clusters", 0), ("mean", 2))
]
LAYERED = [kind(direct=direct, messages=messages, **SMALL) for kind in LAYERS for direct, messages in ((1, 1), (0, 0))]
FLATS = [FlatEncoder(widths=(6, 4), norm=norm, dropout=0.2) for norm in ("batch", "layer", "none")]
OTHERS = [
    *(DualEncoder(**SMALL, readout=readout, messages=messages) for readout, messages in (("regional", 1), ("mean", 0))),
    *(BrainNetEncoder(filters=3, nodes=5, embedding=4, n_layers=2, messages=messages) for messages in (True, False)),
    LowRankEncoder(rank=3, embedding=4),
    ComponentsEncoder(components=3, widths=(6, 4)),
]
ENCODERS = [*GRAPHS, *LAYERED, *ATLAS_FREE, *FLATS, *OTHERS]


def name(settings: EncoderSettings) -> str:
    """Short and different for each of `ENCODERS`."""
    kind = settings.model_fields_set and getattr(settings, "kind", "")
    if not isinstance(settings, MessageSettings):
        return "-".join(map(str, [kind, *(getattr(settings, k) for k in ("norm", "messages") if hasattr(settings, k))]))
    direct = isinstance(settings, DirectSettings) and settings.direct
    parts = [kind, settings.node_features, settings.readout, "direct" if direct else "nodes", settings.norm]
    return "-".join(map(str, [*parts, *(["silent"] if not settings.messages else [])]))


def make_batch(*, dtype: torch.dtype = torch.float32, n: int = N, masked: bool = True) -> Batch:
    """Random rows as from the features; some edges negative, some regions missing."""
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
    places = torch.from_numpy(rng.normal(size=(REGIONS, PLACES))).to(dtype)
    connectome = ConnectomeRows(*(torch.from_numpy(a).to(dtype) for a in arrays), places=places)
    clinical = ClinicalRows(torch.from_numpy(rng.normal(size=(n, CLINICAL))).to(dtype))
    everybody = torch.ones(n, dtype=torch.bool)
    return Batch({"connectome": connectome, "clinical": clinical}, {"connectome": everybody, "clinical": everybody})


def model_settings(settings: EncoderSettings) -> ModelSettings:
    norm = getattr(settings, "norm", "none")
    return ModelSettings.model_validate(
        {"encoder": settings, "clinical": ClinicalEncoder(width=3), "fused_width": 6, "norm": norm}
    )


def make_model(settings: EncoderSettings, dtype: torch.dtype = torch.float32) -> OutcomeModel:
    """A model with random weights only: some are initialised at zero, which could hide an error."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = build_model(model_settings(settings), SIZES, HEADS)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    return model.to(dtype)
