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
# # 4. An Optuna study and its optimism
#
# The inner score of the best of many trials is optimistic. `connectome-tl tune` searches each outer fold separately on
# its inner folds; `run --tuned` then scores the best settings on rows that no trial has used. The difference is the
# optimism. On pure noise the inner score increases with the number of trials, while the outer score stays at chance.

# %%
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from connectome_tl import run_study, simulate_study, tune_study, write_cohort

SMALL = os.environ.get("CONNECTOME_TL_SMALL") == "1"
QUICK = """\
baselines: [prevalence, clinical_only, ridge]
stages: {finetune: {training: {steps: 20}, ensemble: {networks: 2}}}
n_jobs: 1
"""  # fewer models and steps, for the tests
folder = Path(tempfile.mkdtemp())
infants = simulate_study(n_source=4, n_pool=4, n_target=40, seed=3).target
order = np.random.default_rng(0).permutation(infants.n_subjects)


def dealt_out(table):
    """The same rows in another order: no subject keeps its outcome."""
    return table.iloc[order].set_axis(list(infants.ids))


noise = replace(infants, targets=dealt_out(infants.targets), status=dealt_out(infants.status), scores=None)
write_cohort(noise, folder / "target")
settings = folder / "study.yaml"
settings.write_text(
    f"""\
title: Tuned on noise
target: {{cohort: target/cohort.yaml, tasks: [cognitive]}}
splits: {{repeats: 1, outer: {2 if SMALL else 3}, inner: {2 if SMALL else 3}, stratum: cognitive, seed: 0}}
controls: []
permutations: 0
refits: {{linear: 0}}
tune:
  model: core
  trials: {4 if SMALL else 40}
  startup: 3
  space:
    core.clip: {{low: 1.0, high: 8.0}}
    core.average_below: {{choices: [0, 150]}}
    core.stein: {{choices: [true, false]}}
{QUICK if SMALL else ""}"""
)
found = tune_study(settings, folder / "tuned")
for fold in found.folds:
    print(fold.fold, "inner AUC", [round(value, 3) for value in fold.values], fold.settings)

# %%
run = run_study(settings, folder / "results", tuned=folder / "tuned")
inner = sum(fold.values[0] for fold in found.folds) / len(found.folds)
outer = run.scores.query("metric == 'auc' and model == 'core'").iloc[0]
fig, ax = plt.subplots(figsize=(3.6, 2.6))
ax.bar(["best of inner folds", "outer folds"], [inner, outer["value"]], color=["#C8D1DC", "#0072B2"])
ax.errorbar([1], [outer["value"]], [[outer["value"] - outer["low"]], [outer["high"] - outer["value"]]], color="k")
ax.axhline(0.5, color="k", lw=0.8, ls="--")
ax.set(ylabel="AUC of the core")
plt.show()
print(f"optimism {inner - outer['value']:+.3f}")

# %% [markdown]
# ## Next steps
# - More trials: the inner score increases, the outer score does not.
# - Several workers: `--storage postgresql://...`; trials of killed workers are repeated.
