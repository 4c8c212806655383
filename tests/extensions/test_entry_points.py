"""The objective of the guide, in a package of its own: loaded by every command and trained in stage 2."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_study import plan_of, small_cohorts, small_settings

from connectome_tl.cli import main
from connectome_tl.cohort.splits import Fold
from connectome_tl.settings.training import Adapt
from connectome_tl.training.fit import fit
from connectome_tl.training.objectives.table import OBJECTIVES

GUIDE = Path(__file__).parents[2] / "docs" / "howto" / "extend.md"


def test_the_objective_of_the_guide_is_loaded_by_a_command_and_trained(install: Callable[..., None]) -> None:
    section = GUIDE.read_text().partition("## An objective\n")[2]
    (code, *_) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    install("shrinking", code)
    with pytest.raises(SystemExit, match="0"):
        main(["atlas", "list"])
    assert "small_embedding" in {settings.model_fields["kind"].default for settings in OBJECTIVES}
    training = {"steps": 30, "batch_size": 8}
    adapt = Adapt.model_validate({"objective": {"kind": "small_embedding"}, "training": training})
    study = small_settings(steps=2)
    study = study.model_copy(update={"stages": study.stages.model_copy(update={"adapt": adapt})})
    cohorts = small_cohorts(n_source=12, n_pool=10, n_target=16)
    ids = cohorts.target.ids
    plan = plan_of(Fold(ids[:10], ids[10:]), study, cohorts=cohorts, scheme="network")
    found = fit([plan], cohorts.by_name())
    (adapted,) = [result for result in found.values() if result.stage == "adapt"]
    assert np.isfinite(adapted.curve).all()
    assert adapted.curve[-5:].mean() < adapted.curve[:5].mean()


@pytest.mark.parametrize(
    ("code", "said"), [("import nothing_of_this_name", "nothing_of_this_name"), ("1 / 0", "division by zero")]
)
def test_an_extension_that_cannot_be_loaded_is_named(
    install: Callable[..., None], capsys: pytest.CaptureFixture[str], code: str, said: str
) -> None:
    install(f"broken_{abs(hash(code))}", code)
    with pytest.raises(SystemExit, match="64"):
        main(["atlas", "list"])
    assert said in "".join(capsys.readouterr())
