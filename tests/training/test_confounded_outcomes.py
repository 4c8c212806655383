"""An outcome of the study cannot be removed from its edges, since the values of tested rows would be used."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_study import small_cohorts, small_settings

from connectome_tl.errors import UsageError
from connectome_tl.settings.features import Confounds
from connectome_tl.settings.study import CohortUse
from connectome_tl.tasks import Task
from connectome_tl.training.checks import check_names
from connectome_tl.training.schemes import StudyCohorts

CONFOUNDS = ("age", "gestational_age", "log(gestational_age)")


def cohorts_with(values: np.ndarray, column: str) -> StudyCohorts:
    """The cohorts with a further outcome of the target, which is also a covariate or the age."""
    found = small_cohorts()
    target = found.target
    weeks = Task(name="weeks", kind="regression", column=column, unit="weeks")
    tables = {"targets": target.targets.assign(weeks=values), "status": target.status.assign(weeks="observed")}
    return StudyCohorts({"target": replace(target, tasks=(*target.tasks, weeks), **tables)})


@pytest.mark.parametrize("confound", CONFOUNDS)
def test_an_outcome_among_the_confounds_is_refused_unless_the_study_does_not_predict_it(confound: str) -> None:
    target = small_cohorts().target
    column = confound.removeprefix("log(").removesuffix(")")
    values = target.age if column == "age" else target.covariates[column].to_numpy(dtype=float)
    cohorts = cohorts_with(values, f"{column}_at_scan" if column == "age" else column)
    study = small_settings(
        source=None,
        pool=None,
        stages={"pretrain": None, "adapt": None},
        confounds=Confounds(columns=(confound,)),
        target=CohortUse(cohort="target/cohort.yaml", tasks=("cognitive", "weeks")),
    )
    with pytest.raises(UsageError, match=r"'weeks' is one of confounds.columns"):
        check_names(study, cohorts)
    other = study.model_copy(update={"target": CohortUse(cohort="target/cohort.yaml", tasks=("cognitive",))})
    check_names(other, cohorts)
