"""Render the templates of all pages; stamps and their meanings."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from connectome_tl.plurals import file_size
from connectome_tl.report import labels
from connectome_tl.report.figures.learning_curve import curve_table
from connectome_tl.report.tables import age_gap
from connectome_tl.report.tables import page as page_tables
from connectome_tl.report.tables import plain as tables
from connectome_tl.report.tables.downloads import download
from connectome_tl.report.tables.levels import level_table
from connectome_tl.report.text.verdict import transferred_line, weight_line
from connectome_tl.report.views import glance_questions

if TYPE_CHECKING:
    from jinja2 import Environment

# Short form and meaning of each stamp; the short form is printed on every table and figure.
_STAMPS = {
    "simulated": ("Simulated data", "These are not real data; they were simulated with a known truth."),
    "transductive": (
        "Transductive",
        "Adaptation used the scans (never the outcomes) of the tested subjects. "
        "The scores do not apply to new subjects.",
    ),
    "exploratory": (
        "Exploratory",
        "The analysis was not fixed beforehand, or scans lack correction of susceptibility, eddy currents "
        "and motion within volumes, or a setting lets training see tested subjects (a warning names it). It can "
        "suggest, it cannot confirm.",
    ),
}


def stamps_of(**flags: bool) -> list[tuple[str, str]]:
    """Short and long form of every stamp whose flag is set."""
    return [_STAMPS[name] for name, is_set in flags.items() if is_set]


def render(template: str, **context: object) -> str:
    """Fill one template; every text is escaped."""
    html = environment().get_template(template).render(**context)
    return html.encode("utf-8", "replace").decode("utf-8")


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The Jinja environment of all templates, with the functions that they use."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["label"] = labels
    made.globals["download"] = download
    made.globals["file_size"] = file_size
    made.globals["weight_line"] = weight_line
    made.globals["transferred_line"] = transferred_line
    for rows in (
        tables.cohort_rows,
        level_table,
        curve_table,
        glance_questions,
        age_gap.age_gap_table,
        age_gap.age_gap_note,
        tables.subgroup_table,
        tables.conformal_table,
        tables.sample_size_rows,
        tables.power_rows,
        tables.instability_rows,
        tables.metric_table,
        tables.threshold_note,
        tables.too_small,
        tables.recalibration_rows,
        tables.threshold_rows,
        tables.missingness_rows,
        tables.returner_rows,
        tables.missing_outcome_table,
        tables.lettered,
        tables.permutation_rows,
        tables.comparison_rows,
        page_tables.glance_table,
        page_tables.models_table,
        page_tables.interval_rows,
        page_tables.score_table,
        page_tables.outcome_table,
    ):
        made.globals[rows.__name__] = rows
    return made
