"""`connectome-tl connectomes BIDS_DIR OUT_DIR group`: mean response of all finished scans."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from connectome_tl.errors import DataError, MissingInputError
from connectome_tl.imaging.track.group_response import mean_response
from connectome_tl.imaging.track.reconstruction import response_from_record
from connectome_tl.plurals import counted
from connectome_tl.provenance import read_json_object, write_json

_OWN = "this subject"


def write_group_response(
    out_dir: str | Path, *, participants: Sequence[str] = (), sessions: Sequence[str] = ()
) -> tuple[Path, int]:
    """Average the responses in the sidecars of finished scans, and write `group_response.json`.

    Subjects of later test folds would affect all connectomes: restrict `participants` to others.

    Args:
        participants, sessions: labels to average, with or without `sub-` and `ses-`; all by default.

    Returns:
        The file for `reconstruction.response_file`, and the number of scans.

    Raises:
        MissingInputError: no finished scan, or none of the requested ones.
        DataError: scans were made with a group response, or responses are of different kinds.
    """
    out = Path(out_dir)
    subjects = {f"sub-{label.removeprefix('sub-')}" for label in participants}
    visits = {f"ses-{label.removeprefix('ses-')}" for label in sessions}
    found = {}
    for sidecar in sorted(out.glob("sub-*/**/dwi/*_relmat.json")):
        scan = sidecar.name.split("_atlas-")[0]
        subject, _, session = scan.partition("_")
        unwanted = (subjects and subject not in subjects) or (visits and session not in visits)
        if scan in found or unwanted or not (sidecar.parent / f"{scan}_provenance.json").is_file():
            continue
        record = read_json_object(sidecar, ["Response"])["Response"]
        response = response_from_record(record, sidecar)
        if record.get("of") != _OWN:
            raise DataError(
                "this scan was made with a group response",
                expected="scans made with their own response",
                subject=scan,
                file=sidecar,
                remedy="Run them without reconstruction.response_file, into another folder.",
            )
        found[scan] = response
    absent = sorted(subjects - {scan.partition("_")[0] for scan in found})
    if not found or absent:
        raise MissingInputError(
            "no finished scan with a response",
            expected="a folder that `connectomes ... participant` has written",
            got=", ".join(absent) or None,
            file=out,
        )
    record = mean_response(found).as_record() | {"of": f"mean of {counted(len(found), 'scan')}", "Scans": list(found)}
    return write_json(out / "group_response.json", record), len(found)
