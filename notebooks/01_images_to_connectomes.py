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
# # 1. From images to connectomes
#
# From a BIDS folder with diffusion MRI to connectomes with region names, quality pages and a `cohort.yaml`.
# The data are simulated, so that all bundles and their cross-sections are known.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from connectome_tl import build_connectomes, read_cohort
from connectome_tl.simulation.phantom import PhantomSettings
from connectome_tl.simulation.phantom_folder import write_phantom

folder = Path(tempfile.mkdtemp())
head = PhantomSettings(n_regions=8, n_edges=7, half_axes=(24.0, 28.0, 22.0), voxel=2.5, region_radius=6.0)
bids = write_phantom(folder / "bids", n_subjects=2, n_sessions=1, settings=head)
print(*sorted(path.relative_to(bids).as_posix() for path in bids.glob("sub-01/**/*.nii.gz")), sep="\n")

# %% [markdown]
# The settings name the label images and the tractography options. Omitted keys have defaults; `connectome-tl init`
# writes a file with comments.

# %%
config = bids / "config.yaml"
config.write_text(
    """\
name: phantom
labels: template/tpl-Phantom_atlas-Phantom_dseg.tsv
parcellation: derivatives/truth/{subject}/{session}/{subject}_{session}_space-dwi_atlas-Phantom_dseg.nii.gz
tracking: {n_streamlines: 3000}
preprocessing: {denoise: none, motion: none}
"""
)
build_connectomes(bids, folder / "out", config=config, tell=print)
# %% [markdown]
# The output folder contains one matrix per scan with a sidecar, one page per scan, and a cohort file for `run`.

# %%
print(*sorted(path.relative_to(folder / "out").as_posix() for path in (folder / "out").rglob("*.tsv")), sep="\n")
cohort = read_cohort(folder / "out" / "cohort.yaml")
cohort

# %%
cohort.plot.matrix()

# %% [markdown]
# ## Comparison with the truth
# The truth of the phantom is a table of edges with their cross-sections. Streamline counts should have the same ranks.

# %%
truth = pd.read_csv(bids / "derivatives" / "truth" / "edges.tsv", sep="\t")
first = truth[truth.participant_id == "sub-01"]
place = {name: i for i, name in enumerate(cohort.regions)}
found = [cohort.weights[0, 0, place[a], place[b]] for a, b in zip(first.a, first.b, strict=True)]
fig, ax = plt.subplots(figsize=(4, 3))
ax.plot(first.strength_mm2, found, "o")
ax.set(xlabel="true cross-section (mm²)", ylabel=f"edge ({cohort.measures[0]})")
plt.show()
print("rank correlation", round(pd.Series(found).corr(first.strength_mm2.reset_index(drop=True), method="spearman"), 2))

# %% [markdown]
# The pages of the scans show labels on the image, motion, noise and outliers. Open:

# %%
print(folder / "out" / "index.html")

# %% [markdown]
# ## Next steps
# - Use cross-sections instead of counts: `tracking: {weights: fibre_density}`.
# - Your own data: `connectome-tl connectomes BIDS OUT participant --config connectomes.yaml --dry-run`.
