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
# # 2. Bring your own matrices and tables
#
# The inputs are a folder of matrices and a spreadsheet. Here, both are simulated in a typical form: matrices without
# region names, and a sheet in a different order with arbitrary column names.

# %%
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl import init_study, read_cohort, read_connectome, simulate_study

lab = Path(tempfile.mkdtemp())
infants = simulate_study(n_source=4, n_pool=4, n_target=40).target
(lab / "matrices").mkdir()
for i, one in enumerate(infants.ids):
    np.savetxt(lab / "matrices" / f"{one}_fbc.csv", np.expm1(infants.weights[i, 0]), delimiter=",", fmt="%.2f")
sheet = pd.DataFrame(
    {
        "Subject": infants.ids,
        "GA (weeks)": infants.covariates["gestational_age"].round(1).to_numpy(),
        "Sex": infants.covariates["sex"].to_numpy(),
        "PMA at scan": infants.age.round(1),
        "Bayley3 cognitive": infants.targets["cognitive_score"].to_numpy(),
    }
)
sheet.sample(frac=1, random_state=0).to_csv(lab / "sheet.csv", sep=";", index=False)
sheet.head()

# %% [markdown]
# `read_connectome` reads one file. The rows have no names, so that the atlas must be given.

# %%
read_connectome(lab / "matrices" / f"{infants.ids[0]}_fbc.csv", atlas="unc_aal90", measure="fbc").regions[:4]

# %% [markdown]
# `init_study` (the command is `connectome-tl init --from TABLE --matrices FOLDER`) inspects the files and writes a
# `cohort.yaml` with comments. Information that the files lack must be given: here, the atlas of the unnamed rows.

# %%
made = init_study(lab / "sheet.csv", lab / "matrices", lab / "study", answers={"atlas": "unc_aal90"})
print(made[0].read_text())

# %%
cohort = read_cohort(made[0])
cohort

# %%
cohort.plot.outcomes()

# %%
cohort.plot.ages()

# %%
cohort.plot.matrix()

# %% [markdown]
# Rows are matched by id, whatever the order of the sheet:

# %%
own = sheet.set_index("Subject")["Bayley3 cognitive"]
same = cohort.targets["Bayley3_cognitive"].to_numpy() == own.loc[list(cohort.ids)].to_numpy()
print(f"{np.nansum(same):.0f} of {own.notna().sum()} known scores are in the right row")

# %% [markdown]
# ## Error messages
# A matrix of a subject that is not in the sheet, a score that is not a number, or an age without a unit is an error. Its
# message has the expected value, the file and a remedy.

# %%
from connectome_tl.errors import ConnectomeTLError

broken = sheet.copy()
broken["Bayley3 cognitive"] = broken["Bayley3 cognitive"].astype(object)
broken.loc[3, "Bayley3 cognitive"] = "refused"
broken.to_csv(lab / "sheet.csv", sep=";", index=False)
try:
    read_cohort(made[0])
except ConnectomeTLError as error:
    print(error)

# %% [markdown]
# ## Next steps
# - `connectome-tl cohort cohort.yaml --report cohort.html`: outliers, sites, missing regions.
# - `convert("qsirecon", "matrices")` writes one table per file, atlas and measure of other programs' files.
# - `connectome-tl power cohort.yaml`: power and precision for a cohort of this size.
