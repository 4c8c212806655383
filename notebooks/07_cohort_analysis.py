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
# # 7. A cohort analysis for a publication
#
# The question: at term-equivalent age, does the connectome of a very preterm infant improve predictions from clinical
# covariates? The report contains the flow of subjects, a table of characteristics, scores with intervals, calibration,
# a decision curve, and a verdict by a rule that was fixed in advance.

# %%
import os
import tempfile
from pathlib import Path

from connectome_tl import audit_run, run_study, simulate_study, write_cohort

SMALL = os.environ.get("CONNECTOME_TL_SMALL") == "1"
QUICK = """\
baselines: [prevalence, clinical_only, ridge]
stages: {finetune: {training: {steps: 20}, ensemble: {networks: 2}}}
n_jobs: 1
"""  # fewer models and steps, for the tests
folder = Path(tempfile.mkdtemp())
infants = simulate_study(n_source=4, n_pool=4, n_target=40 if SMALL else 60, seed=5).target
write_cohort(infants, folder / "cohort")
infants.plot.outcomes()

# %%
(folder / "study.yaml").write_text(
    f"""\
title: Connectome at term and cognition at two years
target: {{cohort: cohort/cohort.yaml, tasks: [cognitive, cognitive_score]}}
splits: {{repeats: {1 if SMALL else 10}, outer: {2 if SMALL else 5}, inner: {0 if SMALL else 3}, stratum: cognitive, seed: 0}}
controls: [no_clinical]
permutations: {9 if SMALL else 999}
refits: {{linear: {0 if SMALL else 100}}}
{QUICK if SMALL else ""}"""
)
run = run_study(folder / "study.yaml", folder / "results")
run

# %% [markdown]
# ## Discrimination

# %%
table = run.scores.query("metric == 'auc' and task == 'cognitive'")[["model", "value", "low", "high"]]
table.sort_values("value", ascending=False).round(2)

# %%
run.plot.roc("cognitive")

# %% [markdown]
# ## Calibration and net benefit

# %%
run.plot.calibration("cognitive")

# %%
run.plot.net_benefit("cognitive")

# %% [markdown]
# ## Beyond clinical covariates
# The main comparison is with clinical covariates only, on the same infants. Rows are the AUC of the full model minus that
# of the model named.

# %%
run.plot.differences("cognitive")

# %%
run.plot.scatter("cognitive_score")

# %% [markdown]
# ## Flow of subjects

# %%
run.plot.flow()

# %% [markdown]
# ## The methods paragraph

# %%
print(run.record.methods)

# %% [markdown]
# ## Before publication
# The audit checks the results and tests one fold for leakage.

# %%
audit = audit_run(folder / "results")
for finding in audit.findings:
    print(f"{finding.status:8s} {finding.check}")
print(run.report.resolve())

# %% [markdown]
# ## Next steps
# - Hold out each site in turn: `splits: {scheme: site_out}`.
# - Share the model: `connectome-tl bundle results --out bundle`, then `validate` it on another cohort.
