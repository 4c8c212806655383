"""Settings of the image baselines."""

from __future__ import annotations

from connectome_tl.settings.base import Settings
from connectome_tl.settings.images.cascade import TwoStage
from connectome_tl.settings.images.descent import Descent
from connectome_tl.settings.images.synthesis import TaskGuidedGan


class TwoStageSettings(TwoStage):
    """The two-stage age network as a baseline; its encoder is the study's encoder of volumes."""

    def describe(self) -> str:
        """A noun phrase for the methods section."""
        how = "out-of-fold" if self.first_estimates == "out_of_fold" else "in-sample"
        return (
            f"two networks on volumes, of which the second predicts what the rounded {how} estimate of the first "
            f"leaves over, with errors of ranks and of differences (weight {self.loss.weight:g}; TSAN, Cheng et al. "
            "2021, doi:10.1109/TMI.2021.3085948)"
        )


class SynthesisSettings(Settings):
    """A network on volumes that is trained with synthetic ones as well; its encoder is the study's.

    Args:
        synthesis: how volumes are made, from the training rows of each fold alone.
        training: of the network.
    """

    synthesis: TaskGuidedGan = TaskGuidedGan()
    training: Descent = Descent(steps=300, cosine=True)

    def describe(self) -> str:
        """A noun phrase for the methods section."""
        made = {
            "gan": "by mixing the latent maps of an age-guided generator (Li et al. 2021, arXiv:2108.01659)",
            "mixup": "by mixing voxels",
        }[self.synthesis.source]
        return (
            f"a network on volumes trained with {self.synthesis.share:g} synthetic volumes per training subject, made "
            f"{made}"
        )
