# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 6. Volumes: from brain age to injury, with maps
#
# A 3D network is pretrained on the age of healthy infants from T1w volumes, where many labels are available. It is then
# fine-tuned to detect an injury of the deep grey matter in newborns on another contrast (ADC). Does pretraining help?
# The controls are the same network from scratch, and simple baselines: head volume, intensity quantiles, principal
# components, a random encoder. All volumes are simulated.

# %%
import os
import tempfile
from pathlib import Path

from connectome_tl import map_volumes, read_cohort, run_study
from connectome_tl.simulation.volume_cohorts import write_volume_cohort
from connectome_tl.workflows.demos.volumes import HEALTHY, NEWBORNS

SMALL = os.environ.get("CONNECTOME_TL_SMALL") == "1"  # fewer subjects and steps, for the tests
folder = Path(tempfile.mkdtemp())
n_healthy, n_newborns = (30, 36) if SMALL else (160, 120)
write_volume_cohort(n_healthy, HEALTHY, folder / "healthy", name="healthy", seed=1)
write_volume_cohort(n_newborns, NEWBORNS, folder / "newborns", name="newborn", outcomes=("injury",), seed=2)

read_cohort(folder / "healthy" / "cohort.yaml").plot.volume()

# %%
newborns = read_cohort(folder / "newborns" / "cohort.yaml")
newborns.plot.volume(newborns.targets["injury"].idxmax())

# %% [markdown]
# An image study is an ordinary `study.yaml`. The cohorts have `volumes:`, and `image:` defines the common grid.

# %%
settings = folder / "study.yaml"
settings.write_text(
    f"""\
title: Brain age to injury
source: {{cohort: healthy/cohort.yaml, tasks: [age]}}
target: {{cohort: newborns/cohort.yaml, tasks: [injury]}}
image: {{size: 28, voxel: 5.5, centre: image, augment: {{affine: 0.0, noise: 0.2, gamma: 0.2}}}}
model: {{encoder: {{kind: resnet, width: 0.125, stem_stride: 2}}, fused_width: 16}}
stages:
  pretrain: {{training: {{steps: {8 if SMALL else 160}, batch_size: 16, weight_decay: 0.1}}}}
  adapt: null
  finetune: {{training: {{steps: {8 if SMALL else 160}, batch_size: 16}}, ensemble: {{networks: 2}}}}
splits: {{repeats: 1, outer: {2 if SMALL else 3}, stratum: injury, seed: 0}}
controls: [scratch, network_scratch]
baselines: [prevalence, random_encoder, volumes, quantiles, volumes_quantiles, pca_gpr]
permutations: {9 if SMALL else 199}
refits: {{linear: 0}}
n_jobs: {1 if SMALL else 2}
"""
)
run = run_study(settings, folder / "results")
run

# %%
run.plot.scores("injury")

# %% [markdown]
# The difference to the network from scratch is the effect of pretraining on brain age.

# %%
run.comparisons.query("metric == 'auc' and model in ('network', 'full')")[
    ["model", "control", "difference", "low", "high", "verdict"]
]

# %% [markdown]
# ## Voxel maps
# Maps are computed for held-out subjects only, and withheld if the network is not above chance.

# %%
maps = map_volumes(folder / "results", n_subjects=2, kinds=("occlusion", "gradients"))
if maps.maps:
    display(run.plot.maps())
print(*(f"withheld: {task}: {reason}" for task, reason in maps.withheld.items()))

# %% [markdown]
# The tables of deletion and insertion, and the agreement between folds, are on the page of the maps:

# %%
print(run.report.resolve(), folder / "results" / "volume_maps" / "maps.html", sep="\n")

# %% [markdown]
# ## Next steps
# - `connectome-tl demo --images`: the same with more subjects and voxel maps, in a few minutes.
# - `configs/age2hie_*.yaml`, `gloresnet.yaml`, `raw_t1w_resnet.yaml`: the published protocols.
