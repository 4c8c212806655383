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

import matplotlib.pyplot as plt
import nibabel as nib

from connectome_tl import run_study
from connectome_tl.simulation.volume_cohorts import write_volume_cohort
from connectome_tl.workflows.starting.image_demo import HEALTHY, NEWBORNS
from connectome_tl.workflows.images.maps import map_volumes

SMALL = os.environ.get("CONNECTOME_TL_SMALL") == "1"  # fewer subjects and steps, for the tests
folder = Path(tempfile.mkdtemp())
n_healthy, n_newborns = (30, 36) if SMALL else (240, 120)
write_volume_cohort(n_healthy, HEALTHY, folder / "healthy", name="healthy", seed=1)
write_volume_cohort(n_newborns, NEWBORNS, folder / "newborns", name="newborn", outcomes=("injury",), seed=2)

files = [sorted((folder / name).rglob("*.nii*"))[0] for name in ("healthy", "newborns")]
fig, axes = plt.subplots(1, 2, figsize=(5, 2.6))
for ax, file, title in zip(axes, files, ("healthy, T1w", "newborn, ADC"), strict=True):
    volume = nib.load(file).get_fdata()
    ax.imshow(volume[:, :, volume.shape[2] // 2].T, cmap="gray", origin="lower")
    ax.set(title=title, xticks=[], yticks=[])
plt.show()

# %% [markdown]
# An image study is an ordinary `study.yaml`. The cohorts have `volumes:`, and `image:` defines the common grid.

# %%
settings = folder / "study.yaml"
settings.write_text(
    f"""\
title: Brain age to injury
source: {{cohort: healthy/cohort.yaml, tasks: [age]}}
target: {{cohort: newborns/cohort.yaml, tasks: [injury]}}
image: {{size: 20, voxel: 8.0}}
model: {{encoder: {{kind: resnet, width: 0.125, stem_stride: 1}}, fused_width: 16}}
stages:
  pretrain: {{training: {{steps: {8 if SMALL else 300}, batch_size: 16, weight_decay: 0.1}}}}
  adapt: null
  finetune: {{training: {{steps: {8 if SMALL else 160}, batch_size: 16}}, ensemble: {{networks: 2}}}}
splits: {{repeats: 1, outer: {2 if SMALL else 5}, stratum: injury, seed: 0}}
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
maps = map_volumes(folder / "results", n_subjects=2, kinds=("occlusion",))
print(maps.model_dump_json(indent=1)[:600])

# %% [markdown]
# ## Next steps
# - `connectome-tl demo --images`: the same with more subjects and voxel maps, in a few minutes.
# - `configs/age2hie_*.yaml`, `gloresnet.yaml`, `raw_t1w_resnet.yaml`: the published protocols.
