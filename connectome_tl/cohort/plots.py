"""Small figures of a cohort for notebooks, with matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from connectome_tl.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from connectome_tl.cohort.cohort import Cohort

_MOST_NAMES = 24  # regions whose names fit beside a matrix


class CohortPlots:
    """Figures of a cohort. Each method returns a `matplotlib.figure.Figure`."""

    def __init__(self, cohort: Cohort) -> None:
        self._cohort = cohort

    def matrix(self, subject: str | None = None, measure: str | None = None) -> Figure:
        """The connectome of a subject, or the mean of all; rows in the order of the cohort's regions.

        Raises:
            UsageError: the cohort has no connectomes, or not this measure. DataError: no such subject.
        """
        cohort = self._cohort
        if not cohort.n_regions:
            raise UsageError("the cohort has no connectomes")
        if measure is not None and measure not in cohort.measures:
            raise UsageError(f"no measure is called {measure!r}", expected=f"one of {', '.join(cohort.measures)}")
        m = cohort.measures.index(measure) if measure is not None else 0
        rows = np.arange(cohort.n_subjects) if subject is None else cohort.positions([subject])
        present = cohort.node_mask[rows][:, :, None] & cohort.node_mask[rows][:, None, :]
        n_seen = int(cohort.node_mask.any(axis=1).sum())
        count = np.maximum(present.sum(axis=0), 1)
        mean = np.where(present, cohort.weights[rows, m], 0.0).sum(axis=0) / count
        figure = _figure(3.8, 3.3)
        axes = figure.subplots()
        signed = bool((mean < 0).any())
        limit = float(np.quantile(np.abs(mean), 0.99)) or 1.0
        shown = axes.imshow(mean, cmap="RdBu_r" if signed else "viridis", vmin=-limit if signed else 0, vmax=limit)
        transform = {"log1p": "log(1 + {})", "fisher_z": "Fisher z of {}"}.get(cohort.edge_transforms[m], "{}")
        figure.colorbar(shown, ax=axes, shrink=0.8, label=transform.format(cohort.measures[m]))
        axes.set_title(subject or f"mean of {n_seen} subjects")
        if cohort.n_regions <= _MOST_NAMES:
            axes.set_xticks(range(cohort.n_regions), cohort.regions, rotation=90, fontsize=7)
            axes.set_yticks(range(cohort.n_regions), cohort.regions, fontsize=7)
        else:
            axes.set(xlabel="region", ylabel="region")
        return figure

    def ages(self) -> Figure:
        """Ages at scan, by site where sites are declared."""
        cohort = self._cohort
        known = np.isfinite(cohort.age)
        if not known.any():
            raise UsageError("the cohort has no ages")
        figure = _figure(4.0, 2.6)
        axes = _axes(figure)
        sites = sorted({str(site) for site in cohort.site})
        parts = [cohort.age[known & (cohort.site == site)] for site in sites]
        colour = "#0072B2" if len(sites) == 1 else None
        axes.hist(parts, bins=20, stacked=True, color=colour, label=[site or "no site" for site in sites])
        since = "postmenstrual age" if cohort.age_reference == "postmenstrual" else "age"
        axes.set(xlabel=f"{since} ({cohort.age_unit})", ylabel="subjects")
        if 1 < len(sites) <= 8:
            axes.legend(frameon=False, fontsize=8)
        return figure

    def outcomes(self) -> Figure:
        """Number of subjects with each outcome, and number of positive ones for binary outcomes."""
        cohort = self._cohort
        if not cohort.tasks:
            raise UsageError("the cohort has no outcomes")
        names = [task.name for task in cohort.tasks]
        known = [int(cohort.targets[name].notna().sum()) for name in names]
        positive = [int(cohort.targets[t.name].sum()) if t.is_binary else 0 for t in cohort.tasks]
        figure = _figure(4.4, 0.8 + 0.3 * len(names))
        axes = _axes(figure)
        axes.barh(names, known, color="#C8D1DC", label="known")
        axes.barh(names, positive, color="#0072B2", label="positive")
        axes.invert_yaxis()
        axes.set_xlabel("subjects")
        figure.legend(frameon=False, fontsize=8, loc="outside upper center", ncols=2)
        return figure

    def volume(self, subject: str | None = None) -> Figure:
        """Three slices of the volume of a subject; of the first one by default (nilearn)."""
        cohort = self._cohort
        found = {name: file for name, file in zip(cohort.ids, cohort.volumes, strict=False) if file}
        if not found:
            raise UsageError("the cohort has no volumes")
        name = subject or next(iter(found))
        if name not in found:
            raise UsageError("the cohort has no volume of this subject", got=name)
        from nibabel import Nifti1Image
        from nilearn.plotting import plot_anat

        from connectome_tl.imaging.read.images import read_volume

        image = read_volume(found[name], subject=name)
        figure = _figure(7.2, 2.6, layout=None)
        title = f"{name}, {cohort.volume_contrast}".removesuffix(", ")
        picture = Nifti1Image(image.data, image.affine)
        plot_anat(picture, figure=figure, title=title, draw_cross=False, black_bg=True, colorbar=False)
        return figure


def _figure(width: float, height: float, layout: Literal["constrained"] | None = "constrained") -> Figure:
    from connectome_tl.pictures import Picture

    return Picture(figsize=(width, height), layout=layout)


def _axes(figure: Figure) -> Axes:
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return axes
