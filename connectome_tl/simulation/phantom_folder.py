"""Write the phantom as a raw BIDS folder, with template, atlas and truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl.imaging.read.images import write_volume
from connectome_tl.provenance import write_json, write_table, write_text
from connectome_tl.simulation.phantom import (
    Anatomy,
    Head,
    PhantomSettings,
    make_anatomy,
    make_head,
    strengths_of,
    template_labels,
)


def write_phantom(
    folder: str | Path, *, n_subjects: int = 4, n_sessions: int = 2, settings: PhantomSettings | None = None
) -> Path:
    """Write a raw BIDS folder with a template, its atlas and the truth.

    `sub-*/ses-*/{dwi,anat}` contains raw data, `template/` a T2w template with label image and table, and
    `derivatives/truth/` the labels in each subject's space and `edges.tsv` with the strength of every edge.

    Raises:
        OutputError: the folder cannot be written.
    """
    root = Path(folder)
    anatomy = make_anatomy(settings)
    write_json(root / "dataset_description.json", {"Name": "Phantom", "BIDSVersion": "1.10.1", "DatasetType": "raw"})
    write_text(root / "README", "Simulated heads with known fibres. Nobody was scanned.\n")
    template = make_head(anatomy, still=True)
    write_template(root / "template", anatomy, template)
    rows, truth = [], []
    for subject in range(n_subjects):
        label = f"{subject + 1:02d}"
        strengths = strengths_of(anatomy, subject)
        rows.append({"participant_id": f"sub-{label}", "sex": "FM"[subject % 2]})
        truth += [
            {"participant_id": f"sub-{label}", "a": anatomy.names[i], "b": anatomy.names[j], "strength_mm2": s}
            for (i, j), s in zip(anatomy.edges, strengths, strict=True)
        ]
        weeks = []
        for session in range(n_sessions):
            head = make_head(anatomy, strengths, seed=100 * subject + session)
            name = f"sub-{label}_ses-{session + 1:02d}"
            write_session(root, f"sub-{label}/ses-{session + 1:02d}", name, head)
            weeks.append({"session_id": f"ses-{session + 1:02d}", "scan_age": 38.0 + 2 * session + 0.5 * subject})
        write_table(root / f"sub-{label}" / f"sub-{label}_sessions.tsv", pd.DataFrame(weeks))
    write_json(root / "sessions.json", {"scan_age": {"Description": "postmenstrual age at scan", "Units": "week"}})
    write_table(root / "participants.tsv", pd.DataFrame(rows))
    write_table(root / "derivatives" / "truth" / "edges.tsv", pd.DataFrame(truth))
    return root


def write_template(folder: Path, anatomy: Anatomy, head: Head) -> None:
    """A T2w template with its brain mask, label image and table of labels."""
    brain, labels = template_labels(anatomy)
    affine = head.t2w_affine
    write_volume(folder / "tpl-Phantom_T2w.nii.gz", head.t2w, head.t2w_affine)
    write_volume(folder / "tpl-Phantom_desc-brain_mask.nii.gz", brain, affine)
    write_volume(folder / "tpl-Phantom_atlas-Phantom_dseg.nii.gz", labels, affine)
    table = pd.DataFrame({"index": range(1, len(anatomy.names) + 1), "name": list(anatomy.names)})
    write_table(folder / "tpl-Phantom_atlas-Phantom_dseg.tsv", table)


def write_session(root: Path, place: str, name: str, head: Head) -> None:
    """Write the raw data of one scan to `root`/`place`, and the truth below `root`/derivatives/truth."""
    folder = root / place
    write_volume(folder / "dwi" / f"{name}_dwi.nii.gz", head.dwi, head.affine)
    write_text(folder / "dwi" / f"{name}_dwi.bval", " ".join(f"{b:.0f}" for b in head.bvals) + "\n")
    # FSL uses the axes of the image, with the first one flipped if the determinant is positive.
    axes = head.affine[:3, :3] / np.sqrt((head.affine[:3, :3] ** 2).sum(axis=0))
    vectors = head.directions @ axes * [-1 if np.linalg.det(axes) > 0 else 1, 1, 1]
    write_text(
        folder / "dwi" / f"{name}_dwi.bvec", "".join(" ".join(f"{v:.6f}" for v in row) + "\n" for row in vectors.T)
    )
    write_json(folder / "dwi" / f"{name}_dwi.json", {"PhaseEncodingDirection": "j", "TotalReadoutTime": 0.05})
    write_volume(folder / "anat" / f"{name}_T2w.nii.gz", head.t2w, head.t2w_affine)
    truth = root / "derivatives" / "truth" / place
    write_volume(truth / f"{name}_space-dwi_atlas-Phantom_dseg.nii.gz", head.labels, head.affine)
    write_volume(truth / f"{name}_space-dwi_desc-brain_mask.nii.gz", head.mask, head.affine)
