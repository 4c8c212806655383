"""Real NIfTI volumes in the complete pipeline: grids, age of held-out subjects, another contrast.

    CONNECTOME_TL_DATA=DIR python benchmarks/voxel_real.py [--part grids|fetal|heads|contrast|all] [--quick]

Needs real volumes in the folder that CONNECTOME_TL_DATA names; parts whose volumes are absent are skipped and said.

grids: every volume onto 40^3 of 5 mm: native voxels, orientation, millilitres of the head, what was odd.
fetal: gestational age (weeks) of 15 reconstructed T2w volumes of fetuses with spina bifida, leave-one-out through
`run_study`: mean absolute error of the network and the core beside the five controls and the mean of the others.
heads: age (years) of ten adult T1w volumes with skulls, likewise.
contrast: gestational age by a small network trained on the other fetuses' volumes, or on volumes of random contrast
made from their label maps, tested on the one left out as it is and with its grey levels turned round.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from scipy.ndimage import affine_transform, gaussian_filter
from voxel_tables import CONTROLS, mae, train_age

from connectome_tl.errors import ConnectomeTLError
from connectome_tl.imaging.read.images import read_volume
from connectome_tl.imaging.volumes.foreground import find_foreground
from connectome_tl.imaging.volumes.grids import gridded, to_ras
from connectome_tl.settings.images.descent import Descent
from connectome_tl.settings.images.synthesis import RandomContrast
from connectome_tl.settings.images.volumes import Augmentation, ImageSettings, ResNetEncoder
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.study import CohortUse, Refits, SplitSettings, StudySettings
from connectome_tl.settings.training import Ensemble, FineTune, Stages, Training
from connectome_tl.training.images.rows import VolumeRows
from connectome_tl.training.images.synthesis import random_contrast_rows
from connectome_tl.workflows.study.run import run_study

FETAL = "fetal_atlases/SpinaBifida_Fidon2021"


def fetal(data: Path) -> pd.DataFrame:
    """id, age (weeks), volume, labels; one row per reconstruction."""
    rows = []
    for folder in sorted((data / FETAL).glob("fetal_SB_atlas_GA*")):
        week = int(re.findall(r"GA(\d+)", folder.name)[0])
        name = folder.name.removeprefix("fetal_SB_atlas_").replace("_", "")
        rows.append((name, week, folder / "srr.nii.gz", folder / "parcellation.nii.gz"))
    return pd.DataFrame(rows, columns=["id", "age", "volume", "labels"])


def heads(data: Path) -> pd.DataFrame:
    """id, age (years), volume; one row per adult."""
    folder = data / "ixi_10"
    if not (folder / "participants.tsv").is_file():
        return pd.DataFrame(columns=["id", "age", "volume"])
    table = pd.read_csv(folder / "participants.tsv", sep="\t")
    files = [folder / "T1w" / f"{subject}_T1w.nii.gz" for subject in table["participant_id"]]
    names = table["participant_id"].str.removeprefix("sub-")
    return pd.DataFrame({"id": names, "age": table["age"], "volume": files})


def every_volume(data: Path) -> list[Path]:
    """One volume of each source and grid, and all of those whose grids differ."""
    found = [*fetal(data)["volume"], *heads(data)["volume"]]
    found += sorted((data / "infant_templates").glob("*.nii.gz"))
    return found + sorted((data / "bme_x_bids").glob("sub-*/ses-*/anat/*_T?w.nii.gz"))


def grids(data: Path, quick: bool) -> None:
    asked = ImageSettings(size=40, voxel=5.0, shape="note")
    files = every_volume(data)
    kinds: dict[str, list[str]] = {}
    for file in files[:: 12 if quick else 1]:
        name = str(file.relative_to(data))
        try:
            made = gridded(str(file), file.parent.name, asked)
        except ConnectomeTLError as error:
            kinds.setdefault(f"refused: {error}", []).append(name)
            continue
        volume = read_volume(file)
        axes = "".join(["LR", "PA", "IS"][i][int(s > 0)] for i, s in _axes(volume.affine))
        native = "x".join(map(str, volume.shape)), "x".join(f"{z:.2g}" for z in volume.zooms), axes
        odd = "; ".join(made.notes)
        text = f"{' '.join(native)}, head {made.head_ml:.0f} ml{', ' + odd if odd else ''}"
        kinds.setdefault(text if odd else f"{' '.join(native)}", []).append(f"{name} ({made.head_ml:.0f} ml)")
    print(f"\ngrids: {len(files)} volumes")
    for kind, names in kinds.items():
        print(f"  {kind}: {len(names)}, such as {names[0]}")


def brains(data: Path) -> None:
    """The foreground of whole heads beside the brain that their label maps show."""
    folder = data / "ixi_10"
    rows = []
    for file in sorted((folder / "T1w").glob("*.nii.gz")):
        image = to_ras(read_volume(file))
        brain = to_ras(read_volume(folder / "labels" / file.name.replace("_T1w", "_labels"))).data > 0
        mask = find_foreground(image.data, image.zooms).mask
        voxel = float(np.prod(image.zooms)) / 1000
        rows.append((mask.sum() * voxel, brain.sum() * voxel, 100 * mask[brain].mean()))
    if not rows:
        return
    heads, labelled, covered = np.array(rows).T
    print(f"\nforeground of {len(rows)} whole heads: {heads.min():.0f} to {heads.max():.0f} ml")
    print(f"  labelled brains {labelled.min():.0f} to {labelled.max():.0f} ml, covered {covered.min():.2f} % or more")
    print(f"  correlation of head and brain volume {np.corrcoef(heads, labelled)[0, 1]:.2f}")


def _axes(affine: np.ndarray) -> list[tuple[int, float]]:
    columns = affine[:3, :3]
    return [(int(np.abs(columns[:, k]).argmax()), columns[np.abs(columns[:, k]).argmax(), k]) for k in range(3)]


def study(title: str, n: int, image: Mapping[str, object], quick: bool) -> StudySettings:
    steps = 3 if quick else 150
    return StudySettings(
        title=title,
        target=CohortUse(cohort="cohort.yaml", tasks=("age",)),
        image=ImageSettings.model_validate(
            {"augment": Augmentation(flip=0.5, affine=0.5, noise=0.2, gamma=0.2), "shape": "note", **image}
        ),
        model=ModelSettings(encoder=ResNetEncoder(width=1 / 8, stem_stride=2), fused_width=8),
        stages=Stages(
            pretrain=None,
            adapt=None,
            finetune=FineTune(
                training=Training(steps=steps, batch_size=8, learning_rate=2e-3, weight_decay=0.05, schedule="cosine"),
                ensemble=Ensemble(networks=2, checkpoints=(0.5,)),
            ),
        ),
        splits=SplitSettings(repeats=1, outer=3 if quick else n, stratum=""),
        controls=(),
        baselines=("prevalence", *CONTROLS),
        refits=Refits(linear=0),
        n_jobs=1,
    )


def left_out(title: str, table: pd.DataFrame, unit: str, image: Mapping[str, object], quick: bool) -> None:
    """Age of each subject by models of the others, through the whole engine."""
    if table.empty:
        print(f"\n{title}: no volumes here")
        return
    home, started = Path(tempfile.mkdtemp()), time.process_time()
    try:
        plain = table[["id", "age", "volume"]].astype({"volume": str})
        plain.to_csv(home / "table.tsv", sep="\t", index=False)
        described = {
            "name": title,
            "participants": "table.tsv",
            "id": "id",
            "outcomes": [{"name": "age", "kind": "regression", "column": "age", "unit": unit}],
            "volumes": {"column": "volume"},
        }
        (home / "cohort.yaml").write_text(yaml.safe_dump(described))
        found = run_study(study(title, len(table), image, quick), home / "run", base=home)
        rows = found.predictions
        error = (rows["y_score"] - rows["y_true"]).abs().groupby(rows["model"]).mean().sort_values()
        print(f"\n{title}: {len(table)} subjects, mean absolute error in {unit}")
        for model, value in error.items():
            print(f"  {model:20s} {value:.2f}")
        print(f"  CPU time {(time.process_time() - started) / 60:.1f} min")
    finally:
        shutil.rmtree(home, ignore_errors=True)


def labelled_rows(table: pd.DataFrame, size: int, voxel: float) -> VolumeRows:
    """Volumes standardised over the brain and their label maps, which share their native grid, on a coarser one."""
    volumes, labels = [], []
    for _, row in table.iterrows():
        image, parcels = (to_ras(read_volume(row[name])) for name in ("volume", "labels"))
        step = voxel / image.zooms
        middle = np.argwhere(parcels.data > 0).mean(axis=0)
        offset = middle - step * (size - 1) / 2
        shape = (size, size, size)
        found = affine_transform(gaussian_filter(image.data, 0.42 * step), step, offset, shape, order=1)
        label = affine_transform(parcels.data, step, offset, shape, order=0).astype(np.int64)
        inside = label > 0
        volumes.append(np.where(inside, (found - found[inside].mean()) / found[inside].std(), 0).astype(np.float32))
        labels.append(label)
    return VolumeRows(
        tuple(table["id"]),
        torch.from_numpy(np.stack(volumes)[:, None]),
        table["age"].to_numpy(dtype=float),
        labels=torch.from_numpy(np.stack(labels)),
    )


def contrast(data: Path, quick: bool) -> None:
    table, started = fetal(data), time.process_time()
    if table.empty:
        print("\ncontrast: no volumes here")
        return
    rows = labelled_rows(table, 16 if quick else 32, 10.0 if quick else 4.0)
    descent = Descent(steps=3 if quick else 150, learning_rate=2e-3, cosine=True)
    turned = torch.where(rows.volumes != 0, -rows.volumes, rows.volumes)
    said: dict[tuple[str, str], list[float]] = {}
    for i in range(len(rows))[:: 7 if quick else 1]:
        train = rows.at([k for k in range(len(rows)) if k != i])
        made = random_contrast_rows(train, train.ids, RandomContrast(copies=4), i)
        for arm, learnt in (("T2w", train), ("random", made)):
            net = train_age(learnt, descent, i)
            for view, volumes in (("as it is", rows.volumes), ("turned round", turned)):
                said.setdefault((arm, view), []).append(mae(net.ages(volumes[i : i + 1]), rows.ages[i : i + 1]))
    print("\ncontrast: gestational age of fetuses left out, mean absolute error in weeks")
    for (arm, view), errors in said.items():
        print(f"  trained on {arm:8s} tested {view:14s} {np.mean(errors):.2f}")
    for view in ("as it is", "turned round"):
        gain = np.array(said["random", view]) - np.array(said["T2w", view])
        half = 1.96 * gain.std(ddof=1) / np.sqrt(len(gain))
        print(f"  random - T2w, {view}: {gain.mean():+.2f} [{gain.mean() - half:+.2f}, {gain.mean() + half:+.2f}]")
    print(f"  CPU time {(time.process_time() - started) / 60:.1f} min")


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("grids", "fetal", "heads", "contrast", "all"), default="all")
    parser.add_argument("--quick", action="store_true", help="a few volumes, folds and steps")
    asked = parser.parse_args()
    if "CONNECTOME_TL_DATA" not in os.environ:
        sys.exit("CONNECTOME_TL_DATA names the folder of real volumes; it is not set")
    data = Path(os.environ["CONNECTOME_TL_DATA"])
    size = 16 if asked.quick else 32
    if asked.part in ("grids", "all"):
        grids(data, asked.quick)
        brains(data)
    if asked.part in ("fetal", "all"):
        left_out("fetal", fetal(data), "weeks", {"size": size, "voxel": 128.0 / size}, asked.quick)
    if asked.part in ("heads", "all"):
        left_out("heads", heads(data), "years", {"size": size, "voxel": 256.0 / size}, asked.quick)
    if asked.part in ("contrast", "all"):
        contrast(data, asked.quick)


if __name__ == "__main__":
    main()
