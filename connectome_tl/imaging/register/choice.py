"""Choose the registration engine of a scan and its metric (`registration.engine` and `ants_metric`: `auto`).

`benchmarks/registration.py` has the measurements, docs/decisions/0016-gate.md the reasons.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from connectome_tl.imaging.read.images import Volume
from connectome_tl.imaging.register.ants import ants_is_installed, has_right_angles
from connectome_tl.imaging.register.bias import STRONG, BiasField
from connectome_tl.settings.imaging import RegistrationSettings

Metric = Literal["mutual", "local"]
_METRICS: dict[Metric, str] = {"mutual": "mutual information", "local": "local correlation"}


@dataclass(frozen=True)
class Engine:
    """An engine, and the reason for its choice.

    Attributes:
        metric: of the nonlinear registration by ANTs; not used by dipy.
    """

    name: Literal["dipy", "ants"]
    why: str
    metric: Metric = "mutual"

    def record(self) -> dict[str, object]:
        """For the sidecar."""
        found: dict[str, object] = {"Name": self.name, "Why": self.why}
        return found if self.name == "dipy" else {**found, "Metric": _METRICS[self.metric]}

    def told(self) -> str:
        """Text for the report."""
        how = "dipy" if self.name == "dipy" else f"ANTs with {_METRICS[self.metric]}"
        return f"Registered by {how} ({self.why})."


def choose_engine(
    settings: RegistrationSettings,
    contrasts: tuple[str | None, str | None],
    bias: BiasField,
    images: tuple[Volume, ...],
    *,
    lesion: bool = False,
) -> Engine:
    """The engine of the settings; for `auto`, ANTs if installed and both images have the same contrast.

    The metric of ANTs, if it is `auto`, is local correlation for one contrast, otherwise mutual information.

    Args:
        contrasts: T1w or T2w of the scan and of its template, None if unknown.
        bias: bias field of the scan.
        images: images to register; ITK requires orthogonal axes.
        lesion: whether a lesion is excluded from the cost.
    """
    own, other = contrasts
    metric = metric_of(settings, contrasts)
    if settings.engine != "auto":
        return Engine(settings.engine, "as set in the configuration", metric)
    if not ants_is_installed():
        return Engine("dipy", "antspyx is not installed")
    if own is None or other is None:
        return Engine("dipy", "it is not known that image and template have one contrast")
    if own != other:
        return Engine("dipy", f"the image is {own} and the template {other}, where it is more exact than ANTs")
    if lesion:
        return Engine("dipy", "a lesion is excluded, and ANTs was not more accurate with it")
    if bias.method == "none" and bias.ratio > STRONG:
        return Engine("dipy", f"a bias field of {bias.ratio:.1f} was left in, to which ANTs is more sensitive")
    if not all(has_right_angles(image) for image in images):
        return Engine("dipy", "axes are not at right angles, which ANTs cannot represent")
    return Engine("ants", f"both images are {own}, where it is as accurate or more so", metric)


def metric_of(settings: RegistrationSettings, contrasts: tuple[str | None, str | None]) -> Metric:
    """The metric of ANTs in the settings; for `auto`, that for these contrasts of scan and template."""
    if settings.ants_metric != "auto":
        return settings.ants_metric
    own, other = contrasts
    return "local" if own is not None and own == other else "mutual"
