"""A fitted model meets a cohort: are its regions those of the model, in the model's order?"""

from __future__ import annotations

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import DataError


def check_regions(regions: tuple[str, ...], cohort: Cohort) -> None:
    """Refuse a cohort whose regions are not those of a model, in its order; a model without regions takes any.

    Raises:
        DataError: other regions, or another order.
    """
    if regions and regions != cohort.regions:
        raise DataError(
            f"cohort {cohort.name!r} has other regions than the model, or another order",
            expected=f"{len(regions)} regions: {', '.join(regions[:3])} ...",
            got=f"{cohort.n_regions}: {', '.join(cohort.regions[:3])} ...",
            remedy="Line its regions up with `with_regions`.",
        )
