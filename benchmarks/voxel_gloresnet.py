"""Effect of two leaks of public code on the score of the GloResNet recipe.

    python benchmarks/voxel_gloresnet.py [--cohorts 8] [--first 0] [--out voxel_gloresnet.tsv] [--device cpu] [--quick]

160 simulated newborns (32^3, ADC), 40 % with a lesion of the deep grey matter and equal-looking blobs elsewhere; a
ResNet-10 of an eighth of the published width with mixup, class weights, a cosine schedule, flips and mirrored volumes
at test, in 5 stratified folds. Each network is trained on four fifths of its training fold, once; its state after
every tenth of the steps is looked at. `last` takes the last one, `inner` the one that is best on the fifth that was
left out of training, and `LEAKY, test folds` the one that is best on the test fold, as public code does: a score that
no new subject will see. The variants share networks, so that they differ in this choice alone. `kin together` and
`LEAKY, kin apart` have two scans each of half as many infants, of which the second is the first with other noise; folds
keep both on one side, or do not. Prints the AUC within folds, and paired differences with 95 % t intervals over
cohorts. In a study these are stages.finetune.ensemble.choose_on: tested and splits.families: ignored.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, train_test_split
from torch import Tensor, nn
from torch.nn import functional
from voxel_tables import Table, arguments, encoder, rows_of

from connectome_tl.settings.images.descent import Descent
from connectome_tl.simulation.volumes import Lesions, VolumeSettings, simulate_volumes
from connectome_tl.training.images.descent import descend
from connectome_tl.training.images.rows import in_batches, seeded
from connectome_tl.training.networks.volumes import device_of

LEAKY = "LEAKY, test folds"
VARIANTS = ("last", "inner", LEAKY)
TOGETHER, APART = "kin together", "LEAKY, kin apart"
ALPHA, NOISE = 0.2, 0.3


class Classifier(nn.Module):
    """An encoder and one logit."""

    def __init__(self) -> None:
        super().__init__()
        self.body = encoder()
        self.head = nn.Linear(self.body.width, 1)

    def forward(self, volumes: Tensor) -> Tensor:
        return self.head(self.body(volumes))[:, 0]

    def logits(self, volumes: Tensor) -> np.ndarray:
        """Mean of each volume and its mirror image."""
        self.eval()
        device = self.head.weight.device
        found = sum(in_batches(self, view, device=device) for view in (volumes, volumes.flip(2)))
        self.train()
        assert isinstance(found, Tensor)
        return found.double().numpy() / 2


def states(
    volumes: Tensor, outcome: np.ndarray, train: np.ndarray, steps: int, seed: int, device: torch.device
) -> np.ndarray:
    """(10, n_subjects) logits of all subjects after each tenth of the steps of one network."""
    target = torch.tensor(outcome, dtype=torch.float32, device=device)
    share = float(outcome[train].mean())
    weight = torch.tensor((1 - share) / share, device=device)
    seen: list[np.ndarray] = []
    with seeded(seed) as rng:
        net, every, done = Classifier().to(device), max(1, steps // 10), [0]

        def loss_of(index: np.ndarray) -> Tensor:
            rows = train[index]
            at, other = rows, rng.permutation(rows)
            mix = float(rng.beta(ALPHA, ALPHA))
            both = mix * volumes[at] + (1 - mix) * volumes[other]
            flipped = torch.from_numpy(rng.random(len(at)) < 0.5)
            both = torch.where(flipped[:, None, None, None, None], both.flip(2), both)
            logits = net(both.to(device))
            losses = [
                functional.binary_cross_entropy_with_logits(logits, target[which], pos_weight=weight)
                for which in (at, other)
            ]
            return mix * losses[0] + (1 - mix) * losses[1]

        def look() -> None:
            # Called before a step: the state after the steps until then.
            if done[0] and done[0] % every == 0 and len(seen) < 9:
                seen.append(net.logits(volumes))
            done[0] += 1

        descent = Descent(steps=steps, batch_size=16, learning_rate=2e-3, cosine=True)
        descend(net.parameters(), loss_of, len(train), descent, rng, after=look)
        seen.append(net.logits(volumes))
    return np.array(seen)


def run(seed: int, quick: bool, device: str) -> dict[str, float]:
    """AUC of each variant, mean over the folds."""
    n, size, steps = (30, 16, 10) if quick else (160, 32, 200)
    sim = simulate_volumes(n, VolumeSettings(size=size, ages=(0.0, 1.0), contrast="ADC", lesions=Lesions()), seed=seed)
    volumes, outcome = rows_of(sim).volumes, sim.outcome
    found: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for fold, (train, test) in enumerate(StratifiedKFold(5, shuffle=True, random_state=seed).split(outcome, outcome)):
        learnt, inner = train_test_split(train, test_size=0.2, stratify=outcome[train], random_state=seed)
        logits = states(volumes, outcome, learnt, steps, 100 * seed + fold, torch.device(device_of(device)))
        on_test, on_inner = ([roc_auc_score(outcome[rows], state[rows]) for state in logits] for rows in (test, inner))
        found["last"].append(on_test[-1])
        found["inner"].append(on_test[int(np.argmax(on_inner))])
        found[LEAKY].append(max(on_test))
    return {variant: float(np.mean(values)) for variant, values in found.items()}


def run_kin(seed: int, quick: bool, arm: str, device: str) -> dict[str, float]:
    """AUC at the last step where both scans of an infant are on one side of each fold, or anywhere."""
    n, size, steps = (20, 16, 10) if quick else (80, 32, 200)
    sim = simulate_volumes(n, VolumeSettings(size=size, ages=(0.0, 1.0), contrast="ADC", lesions=Lesions()), seed=seed)
    first = rows_of(sim).volumes
    noise = torch.randn(first.shape, generator=torch.Generator().manual_seed(seed))
    volumes = torch.cat([first, torch.where(first != 0, first + NOISE * noise, first)])
    outcome, infant = np.tile(sim.outcome, 2), np.tile(np.arange(n), 2)
    folds = (StratifiedGroupKFold if arm == TOGETHER else StratifiedKFold)(5, shuffle=True, random_state=seed)
    found = []
    for fold, (train, test) in enumerate(folds.split(outcome, outcome, infant if arm == TOGETHER else None)):
        logits = states(volumes, outcome, train, steps, 100 * seed + fold, torch.device(device_of(device)))[-1]
        found.append(roc_auc_score(outcome[test], logits[test]))
    return {"auc": float(np.mean(found))}


def main() -> None:
    given = arguments(__doc__, "voxel_gloresnet", 8)
    table = Table(given.out)
    for seed in range(given.first, given.first + given.cohorts):
        if (seed, VARIANTS[0], "cpu") not in table.values:
            made: dict[str, float] = {}

            def take(variant: str, seed: int = seed, made: dict[str, float] = made) -> dict[str, float]:
                if not made:
                    made.update(run(seed, given.quick, given.device))
                return {"auc": made[variant]}

            for variant in VARIANTS:
                table.fill(seed, variant, lambda variant=variant: take(variant))
        for arm in (TOGETHER, APART):
            table.fill(seed, arm, lambda arm=arm, seed=seed: run_kin(seed, given.quick, arm, given.device))
    print()
    table.means([*VARIANTS, TOGETHER, APART], "auc")
    table.against("inner", ["last", LEAKY], "auc")
    table.against(TOGETHER, [APART], "auc")
    table.spent()


if __name__ == "__main__":
    main()
