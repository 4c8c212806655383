"""Settings of the image baselines."""

from __future__ import annotations

from connectome_tl.settings.base import Settings
from connectome_tl.settings.images.cascade import TwoStage
from connectome_tl.settings.images.descent import Descent
from connectome_tl.settings.images.synthesis import TaskGuidedGan


class TwoStageSettings(TwoStage):
    """The two-stage age network as a baseline, with the study's volume encoder."""

    def describe(self) -> str:
        """A noun phrase for the methods section."""
        how = "out-of-fold" if self.first_estimates == "out_of_fold" else "in-sample"
        return (
            f"two networks on volumes, of which the second predicts what the rounded {how} estimate of the first "
            f"misses, with losses on ranks and on pairwise differences (weight {self.loss.weight:g}; TSAN, Cheng et "
            "al. 2021, doi:10.1109/TMI.2021.3085948)"
        )


class SynthesisSettings(Settings):
    """A network on volumes, trained with additional synthetic volumes, with the study's volume encoder.

    Args:
        synthesis: generation of volumes from the training rows of each fold only.
        training: training of the network.
    """

    synthesis: TaskGuidedGan = TaskGuidedGan()
    training: Descent = Descent(steps=300, cosine=True)

    @property
    def mixed(self) -> SynthesisSettings:
        """The same with voxelwise mixing."""
        return self.model_copy(update={"synthesis": self.synthesis.model_copy(update={"source": "mixup"})})

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
