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
# # 3. Three stages and their controls
#
# Older subjects with labels, neonates without, and a few dozen infants with outcomes. Does what the network learnt on
# the older ones help the infants? The only fair answer compares the model with itself without that stage.

# %%
import os
import tempfile
from pathlib import Path

from connectome_tl import run_study, simulate_study, write_cohort

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
study = simulate_study(n_source=40 if SMALL else 240, n_pool=20 if SMALL else 120, n_target=33, seed=1)
for name, cohort in (("older", study.source), ("pool", study.pool), ("target", study.target)):
    write_cohort(cohort, folder / name)
study.target

# %% [markdown]
# The cohorts are simulated: the infants' outcome follows a pattern of edges that the older subjects' score follows
# too, so that there is something to transfer.

# %%
settings = folder / "study.yaml"
settings.write_text(
    f"""\
title: Three stages
source: {{cohort: older/cohort.yaml}}
pool: {{cohort: pool/cohort.yaml}}
target: {{cohort: target/cohort.yaml, tasks: [cognitive, motor_score]}}
splits: {{repeats: {1 if SMALL else 5}, outer: {2 if SMALL else 5}, stratum: cognitive, seed: 0}}
controls: [no_pretrain, no_adapt, network_no_pretrain]
permutations: {19 if SMALL else 199}
refits: {{linear: 0}}
{QUICK if SMALL else ""}"""
)
run = run_study(settings, folder / "results")
run

# %% [markdown]
# ## Every model, with its interval
# `core` is linear in its features, `network` is the graph network alone, `full` mixes them with a weight that
# held-out rows choose. Baselines stand in the same table.

# %%
run.plot.scores("cognitive")

# %% [markdown]
# ## What each stage adds
# A difference is paired: the same infants, the same folds. Right of the line the full model is better. With 33 infants
# most intervals hold 0, and the verdict is then *cannot tell*, not *no effect*.

# %%
run.plot.differences("cognitive")

# %%
run.comparisons.query("model == 'full' and metric == 'auc'")[["control", "difference", "low", "high", "verdict"]]

# %%
run.plot.training()

# %% [markdown]
# ## Is it better than chance?
# The core is fitted again under permuted outcomes.

# %%
run.plot.permutations("cognitive")

# %% [markdown]
# ## Try next
# - `simulate_study(shared=0)`: a source with another pattern. Does the verdict change?
# - Open `results/report.html` for calibration, net benefit, missing outcomes and the methods text.
