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
# # 5. Explanations of the models
#
# Maps are computed on held-out infants, reported with their stability over folds, and tested against permuted outcomes.
# They show patterns, because weights of correlated features are unreliable. Maps of models that are not better than
# chance are withheld.

# %%
import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl import explain_run, run_study, simulate_study, write_cohort

SMALL = os.environ.get("CONNECTOME_TL_SMALL") == "1"
QUICK = """\
baselines: [prevalence, clinical_only, ridge]
stages:
  pretrain: {training: {steps: 20}}
  adapt: {training: {steps: 10}}
  finetune: {training: {steps: 20}, ensemble: {networks: 2}}
n_jobs: 1
"""  # fewer models and steps, for the tests
folder = Path(tempfile.mkdtemp())
n_source, n_pool, n_target = (40, 20, 36) if SMALL else (240, 120, 120)
study = simulate_study(n_source=n_source, n_pool=n_pool, n_target=n_target, seed=2, effect=1.5)
for name, cohort in (("older", study.source), ("pool", study.pool), ("target", study.target)):
    write_cohort(cohort, folder / name)
(folder / "study.yaml").write_text(
    f"""\
title: What the model looks at
source: {{cohort: older/cohort.yaml}}
pool: {{cohort: pool/cohort.yaml}}
target: {{cohort: target/cohort.yaml, tasks: [cognitive]}}
splits: {{repeats: 1, outer: {2 if SMALL else 3}, stratum: cognitive, seed: 0}}
controls: []
permutations: {9 if SMALL else 99}
refits: {{linear: 0}}
{QUICK if SMALL else ""}"""
)
run = run_study(folder / "study.yaml", folder / "results")
run.plot.scores()

# %%
found = explain_run(
    folder / "results",
    models=("core", "network"),
    n_permutations=19 if SMALL else 199,
    n_refitted=0 if SMALL else None,
)
for one in found.withheld:
    print("withheld:", one.model, one.reason)
print([(one.model, one.method) for one in found.maps])

# %% [markdown]
# ## Regions and edges
# The pattern of the core is the association of each edge with the prediction, in standard deviations of the prediction.
# Edges in orange (red in the matrix) raise the predicted risk, edges in blue lower it.

# %%
run.plot.brain()

# %%
run.plot.edges()

# %%
run.plot.circle()

# %% [markdown]
# The percentage beside a bar is the share of test folds in which the region is among the strongest; a star marks
# corrected p <= 0.05 under permuted outcomes.

# %%
run.plot.regions()

# %%
run.plot.covariates()

# %% [markdown]
# ## Comparison with the truth
# The edges that determine the outcome are known from the simulation. How many of the twelve strongest regions of each
# map are among the twelve planted ones?

# %%
planted = pd.Series(np.abs(study.pattern).sum(axis=0), study.target.regions).nlargest(12).index
for one in found.maps:
    top = pd.Series({item.name: abs(item.value) for item in one.regions}).nlargest(12).index
    print(f"{one.model}, {one.method}: {len(planted.intersection(top))} of 12")

# %% [markdown]
# All maps are also on a page, with tables:

# %%
print(folder / "results" / "explanations" / "explanations.html")

# %% [markdown]
# ## Next steps
# - `run.plot.brain(model="network", method="integrated gradients")` for the attributions of the network.
# - `simulate_study(effect=0)` has no signal: all maps are withheld.
