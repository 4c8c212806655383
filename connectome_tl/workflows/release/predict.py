"""`connectome-tl predict`: apply a bundle to a cohort."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from connectome_tl.arguments import checked_arguments
from connectome_tl.bundle.individual import COLUMNS, individual_rows
from connectome_tl.bundle.permission import withheld
from connectome_tl.provenance import remove_halves, write_sidecar, write_table
from connectome_tl.workflows.progress import Steps
from connectome_tl.workflows.release.application import opened_for, refuse_within


@dataclass(frozen=True, eq=False)
class Predicted:
    """Result of `predict`.

    Attributes:
        file: the written table. rows: its content. withheld: reasons for withheld values, by outcome.
        n_flagged: number of subjects outside the limits. notes: what was noted while the cohort was read, and a warning
            about the order of its rows.
    """

    file: Path
    rows: pd.DataFrame
    withheld: dict[str, str]
    n_flagged: int
    notes: tuple[str, ...] = ()


@checked_arguments
def predict_cohort(
    bundle_dir: str | Path,
    cohort_file: str | Path,
    out: str | Path,
    *,
    research_individual: bool = False,
    show_progress: bool = False,
) -> Predicted:
    """Run the self-test, check limits, and write one row per subject and outcome.

    Args:
        research_individual: write values that would be withheld; each row is marked.

    Raises:
        UsageError: `out` is in the bundle. MissingInputError: the bundle or a file of the cohort is not there.
        DataError: the bundle is damaged, or cannot be applied to this cohort.
    """
    refuse_within(Path(out), bundle_dir)
    with (
        Steps(shown=show_progress) as steps,
        opened_for(bundle_dir, cohort_file, steps) as (bundle, cohort),
        steps.step("predicting"),
    ):
        rows = individual_rows(bundle, cohort, research=research_individual)
    remove_halves(out)
    file = write_table(out, rows)
    why = {one.task.name: withheld(one, bundle.validation) for one in bundle.facts.tasks}
    write_sidecar(
        file,
        inputs={"bundle": bundle.hash, f"cohort {cohort.name}": cohort.rows_hash(cohort.ids)},
        settings={"research_individual": research_individual},
        Columns={name: COLUMNS.get(str(name), "probability of one level") for name in rows.columns},
        Withheld={task: reason for task, reason in why.items() if reason},
        Simulated=cohort.simulated or bundle.facts.simulated,
    )
    n_flagged = int(rows.groupby("subject")["limits"].first().ne("").sum())
    return Predicted(file, rows, {task: reason for task, reason in why.items() if reason}, n_flagged, cohort.notes)
