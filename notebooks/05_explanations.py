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
# They show the pattern and not the weights, since weights of correlated features are unreliable. Maps of models that
# are not better than chance are withheld.

# %%
import os
import tempfile
from pathlib import Path

import numpy as np

from connectome_tl import explain_run, run_study, simulate_study, write_cohort

SMALL = os.environ.get("CONNECTOME_TL_SMALL") == "1"
QUICK = """\
baselines: [prevalence, clinical_only, ridge]
stages: {finetune: {training: {steps: 20}, ensemble: {networks: 2}}}
n_jobs: 1
"""  # fewer models and steps, for the tests
folder = Path(tempfile.mkdtemp())
study = simulate_study(n_source=4, n_pool=4, n_target=60 if SMALL else 120, seed=2, effect=1.5)
write_cohort(study.target, folder / "target")
(folder / "study.yaml").write_text(
    f"""\
title: What the model looks at
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
found = explain_run(folder / "results", models=("core",), n_permutations=19 if SMALL else 199)
for one in found.withheld:
    print("withheld:", one.model, one.reason)


def strongest(items, n):
    """Names of the items with the largest values."""
    return [item.name for item in sorted(items, key=lambda item: -abs(item.value))[:n]]


for one in found.maps:
    print(one.model, one.method, "top regions:", strongest(one.regions, 5))

# %% [markdown]
# ## Comparison with the truth
# The edges that determine the outcome are known from the simulation. How many of the strongest regions of the map are
# among the planted ones?

# %%
names = study.target.regions
strength = np.abs(study.pattern).sum(axis=0)
involved = {names[i] for i in np.argsort(-strength)[:12]}
for one in found.maps:
    if one.regions:
        top = strongest(one.regions, 12)
        print(f"{one.method}: {len(involved & set(top))} of the 12 strongest regions are among the 12 planted ones")

# %% [markdown]
# ## Next steps
# - Open `results/explanations/` for the page with glass brains, matrices and tables.
# - `explain_run(folder, models=("network",))` for integrated gradients of the network.
