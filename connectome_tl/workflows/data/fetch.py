"""`connectome-tl fetch`: download public data with nilearn or TemplateFlow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from connectome_tl.errors import OutputError, UsageError


def fetch_abide(folder: str | Path, *, n_subjects: int | None = None) -> Path:
    """Fetch ABIDE I's region time series (AAL, CPAC, filtered) and phenotypes with nilearn.

    The data are for non-commercial research (doi:10.1038/mp.2013.78) and are downloaded only by this function.
    `connectome.functional.functional_connectome` computes connectomes from the time series.

    Args:
        n_subjects: number of subjects; None for all.

    Returns:
        The folder with what was fetched.

    Raises:
        OutputError: no network, or the folder cannot be written; downloaded files are kept and not fetched again.
    """
    from nilearn.datasets import fetch_abide_pcp

    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
        fetch_abide_pcp(
            data_dir=target,
            n_subjects=n_subjects,
            pipeline="cpac",
            band_pass_filtering=True,
            global_signal_regression=False,
            derivatives=["rois_aal"],
            quality_checked=True,
            verbose=1,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise OutputError(
            f"ABIDE could not be fetched: {error}",
            file=target,
            remedy="It needs a network. Run the same command again; downloaded files are kept.",
        ) from error
    return target


def template_of_age(
    age: float, unit: str, reference: str, *, labels: str | None = None, contrast: str | None = None, fetch: bool
) -> str:
    """Name, cohort and contrast of the template for an age, and the location of its files if they are fetched.

    Raises:
        UsageError: an unknown unit or reference, labels that are none of TemplateFlow's.
        DataError, MissingInputError, OutputError: as `imaging.templates`.
    """
    from connectome_tl.imaging.register.templates import REFERENCES, UNITS, fetch_template, template_for_age

    if unit not in UNITS or reference not in REFERENCES:
        raise UsageError(
            "an age needs a unit and a reference",
            expected=f"--unit {'|'.join(UNITS)} --reference {'|'.join(REFERENCES)}",
            got=f"{unit}, {reference}",
        )
    if labels is not None and not all("-" in pair for pair in labels.split("_")):
        raise UsageError("labels are given by their BIDS entities", expected="--labels desc-structures", got=labels)
    if contrast not in (None, "T1w", "T2w"):
        raise UsageError("no such contrast", expected="--contrast T1w|T2w", got=contrast)
    found = template_for_age(age, unit, reference)
    found = found if contrast is None else replace(found, contrast="T1w" if contrast == "T1w" else "T2w")
    text = f"{found}, {found.contrast}"
    return "\n  ".join([text, *map(str, fetch_template(found, labels))]) if fetch else text
