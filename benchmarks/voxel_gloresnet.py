"""Effect of two leaks of public code on the score of the GloResNet recipe.

    python benchmarks/voxel_gloresnet.py [--cohorts 8] [--first 0] [--out voxel_gloresnet.tsv] [--device cpu] [--quick]

160 simulated newborns (32^3, ADC), 40 % with a lesion of the deep grey matter and equal-looking blobs elsewhere; a
ResNet-10 of an eighth of the published width with mixup, class weights, a cosine schedule, flips and mirrored volumes
at test, in 5 stratified folds. Each network is trained on four fifths of its training fold, once; its state after every
tenth of the steps is looked at. `last` takes the last one, `inner` the one that is best on the fifth that was left out
of training, and `LEAKY, test folds` the one that is best on the test fold, as public code does: a score that no new
subject will see. The five controls learn from the rows of the networks. The variants share networks, so that they
differ in this choice alone. `kin together` and `LEAKY, kin apart` have two scans each of half as many infants, of which
the second is the first with other noise; folds keep both on one side, or do not. Prints the AUC within folds, and
paired differences with 95 % t intervals over cohorts. In a study these are stages.finetune.ensemble.choose_on: tested
and splits.families: ignored.
"""

from __future__ import annotations

from functools import cache, partial

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, train_test_split
from torch import Tensor, nn
from torch.nn import functional
from voxel_tables import CONTROLS, Controls, Table, arguments, beside_controls, encoder, rows_of

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


class Scans:
    """Volumes and outcomes of one cohort, and what its folds are.

    With `kin`, half as many infants have two scans each; the second is the first with other noise.
    """

    def __init__(self, seed: int, quick: bool, *, kin: bool) -> None:
        n, size, self.steps = (30, 16, 10) if quick else (160, 32, 200)
        if kin:
            n = 20 if quick else 80
        settings = VolumeSettings(size=size, ages=(0.0, 1.0), contrast="ADC", lesions=Lesions())
        sim = simulate_volumes(n, settings, seed=seed)
        self.seed, self.volumes, self.outcome, levels = seed, rows_of(sim).volumes, sim.outcome, sim.volumes
        self.infant = np.arange(n)
        if kin:
            noise = NOISE * torch.randn(self.volumes.shape, generator=torch.Generator().manual_seed(seed))
            noise = torch.where(self.volumes != 0, noise, 0.0)
            # The networks see volumes standardised over each head; grey levels have the same noise.
            spread = np.array([one[inside].std() for one, inside in zip(levels, sim.labels > 0, strict=True)])
            levels = np.concatenate([levels, levels + spread[:, None, None, None] * noise[:, 0].numpy()])
            self.volumes = torch.cat([self.volumes, self.volumes + noise])
            self.outcome, self.infant = np.tile(self.outcome, 2), np.tile(self.infant, 2)
        self.controls = Controls(levels, settings.voxel, self.volumes)

    def folds(self, arm: str = "") -> list[tuple[np.ndarray, np.ndarray]]:
        """Training and test rows."""
        split = StratifiedGroupKFold if arm == TOGETHER else StratifiedKFold
        kin = self.infant if arm == TOGETHER else None
        return list(split(5, shuffle=True, random_state=self.seed).split(self.outcome, self.outcome, kin))

    def halves(self, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows that are learned from, and the fifth that is left out."""
        learnt, inner = train_test_split(train, test_size=0.2, stratify=self.outcome[train], random_state=self.seed)
        return learnt, inner

    def auc(self, rows: np.ndarray, scores: np.ndarray) -> float:
        return float(roc_auc_score(self.outcome[rows], scores))

    def logits(self, fold: int, train: np.ndarray, device: str) -> np.ndarray:
        seed = 100 * self.seed + fold
        return states(self.volumes, self.outcome, train, self.steps, seed, torch.device(device_of(device)))


def run(scans: Scans, device: str) -> dict[str, float]:
    """AUC of each variant, mean over the folds."""
    found: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for fold, (train, test) in enumerate(scans.folds()):
        learnt, inner = scans.halves(train)
        logits = scans.logits(fold, learnt, device)
        on_test, on_inner = ([scans.auc(rows, state[rows]) for state in logits] for rows in (test, inner))
        found["last"].append(on_test[-1])
        found["inner"].append(on_test[int(np.argmax(on_inner))])
        found[LEAKY].append(max(on_test))
    return {variant: float(np.mean(values)) for variant, values in found.items()}


def run_kin(scans: Scans, arm: str, device: str) -> dict[str, float]:
    """AUC at the last step where both scans of an infant are on one side of each fold, or anywhere."""
    folds = enumerate(scans.folds(arm))
    found = [scans.auc(test, scans.logits(fold, train, device)[-1][test]) for fold, (train, test) in folds]
    return {"auc": float(np.mean(found))}


def control_of(scans: Scans, name: str, arm: str = "") -> dict[str, float]:
    """AUC of a control on the rows of the networks, mean over the folds."""
    found = []
    for train, test in scans.folds(arm):
        learnt = train if arm else scans.halves(train)[0]
        kin = scans.infant[learnt] if arm == TOGETHER else None
        found.append(scans.auc(test, scans.controls.predict(name, scans.outcome[learnt], learnt, test, kin)))
    return {"auc": float(np.mean(found))}


def main() -> None:
    given = arguments(__doc__, "voxel_gloresnet", 8)
    table = Table(given.out)
    for seed in range(given.first, given.first + given.cohorts):
        single, twice = (cache(partial(Scans, seed, given.quick, kin=kin)) for kin in (False, True))
        variants = cache(lambda single=single: run(single(), given.device))
        for variant in VARIANTS:
            table.fill(seed, variant, lambda v=variant, found=variants: {"auc": found()[v]})
        for name in CONTROLS:
            table.fill(seed, name, lambda s=single, name=name: control_of(s(), name))
        for arm in (TOGETHER, APART):
            table.fill(seed, arm, lambda arm=arm, s=twice: run_kin(s(), arm, given.device))
            for name in CONTROLS:
                table.fill(seed, f"{arm} {name}", lambda arm=arm, s=twice, name=name: control_of(s(), name, arm))
    print()
    table.means([*VARIANTS, TOGETHER, APART], "auc")
    table.against("inner", ["last", LEAKY], "auc")
    table.against(TOGETHER, [APART], "auc")
    beside_controls(table.all(VARIANTS, "auc"), table.all(CONTROLS, "auc"), higher=True, unit=" AUC")
    for arm in (TOGETHER, APART):
        print(f"  {arm}, five controls")
        beside_controls(table.all([arm], "auc"), table.all(CONTROLS, "auc", f"{arm} "), higher=True, unit=" AUC")
    table.spent()


if __name__ == "__main__":
    main()
