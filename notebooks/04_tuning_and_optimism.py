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
targets, status = (table.iloc[order].set_axis(list(infants.ids)) for table in (infants.targets, infants.status))
noise = replace(infants, targets=targets, status=status, scores=None)  # no subject keeps its outcome
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
run.plot.optimism()

# %%
print(f"optimism {run.record.optimism[0].difference:+.3f}")
print(folder / "tuned" / "report.html", run.report.resolve(), sep="\n")

# %% [markdown]
# ## Next steps
# - More trials: the inner score increases, the outer score does not.
# - Several workers: `--storage postgresql://...`; trials of killed workers are repeated.
