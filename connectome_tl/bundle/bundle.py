"""Create and open a bundle: metadata, fits and self-test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from connectome_tl.bundle.extensions import named_in, other_versions, require
from connectome_tl.bundle.folder import (
    METADATA,
    SELF_TEST,
    SELF_TEST_ROWS,
    STRUCTURE,
    VALIDATION,
    WEIGHTS,
    BundleFolder,
    as_bad_data,
    open_folder,
    read_small_json,
)
from connectome_tl.bundle.members import Members, packed, unpacked
from connectome_tl.bundle.metadata import facts_of, metadata_of
from connectome_tl.bundle.self_test import run_self_test, self_test_of
from connectome_tl.bundle.shapes_of_fits import check_members
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import DataError
from connectome_tl.provenance import canonical_json, content_hash
from connectome_tl.settings.records.bundles import BundleFacts, SelfTest, Validation
from connectome_tl.training.checkpoint import tensor_bytes


@dataclass(frozen=True, eq=False)
class Bundle:
    """An opened bundle that has passed its self-test.

    Attributes:
        hash: hash of its content. facts: its metadata. members: its fits.
        validation: validation on another cohort, if any.
    """

    path: Path
    hash: str
    facts: BundleFacts
    members: Members
    validation: Validation | None

    def predict(self, cohort: Cohort) -> np.ndarray:
        """Predictions (n_subjects, n_columns) of all subjects of an aligned cohort (`limits.fitted_to`)."""
        return self.members.predict(cohort, cohort.ids)


def files_of(members: Members, facts: BundleFacts) -> dict[str, bytes]:
    """All files of a bundle except its card, in memory, since they are searched before they are written."""
    arrays, plain = packed(members.models)
    test, rows = self_test_of(members, facts)
    return {
        METADATA: _json(metadata_of(facts)),
        STRUCTURE: _json(plain),
        SELF_TEST: _json(test),
        WEIGHTS: tensor_bytes(arrays),
        SELF_TEST_ROWS: tensor_bytes(rows),
    }


def _json(value: Any) -> bytes:
    return (canonical_json(value, indent=1) + "\n").encode()


def open_bundle(path: str | Path) -> Bundle:
    """Read a bundle: check names, sizes and hashes of its files, then shapes, then run its self-test.

    Raises:
        MissingInputError: no such folder, or an extension that it needs is not installed.
        DataError: the folder is not a bundle, was damaged or changed, or the self-test fails.
    """
    folder = open_folder(path)
    with as_bad_data(folder.path):
        metadata = folder.json(METADATA)
        needed = named_in(metadata["connectome_tl"])
    require(needed)  # before the facts, which may name kinds of outcomes of an extension
    with as_bad_data(folder.path):
        facts = facts_of(metadata)
        members = unpacked(folder.tensors(WEIGHTS), folder.json(STRUCTURE), tuple(one.task for one in facts.tasks))
        check_members(members, facts.inputs, folder.size)
        test = SelfTest.model_validate(folder.json(SELF_TEST))
        # Invalid numbers fail the self-test instead of causing warnings.
        with np.errstate(all="ignore"), folder.rows(SELF_TEST_ROWS) as rows:
            try:
                run_self_test(members, facts, test, rows, folder.size)
            except Exception as error:
                if others := other_versions(needed):
                    raise DataError(f"the self-test of the bundle fails, and {others}: {error}") from error
                raise
        return Bundle(folder.path, folder.hash, facts, members, _validation(folder))


def _validation(folder: BundleFolder) -> Validation | None:
    file = folder.path / VALIDATION
    if not file.is_file():
        return None
    found = Validation.model_validate(read_small_json(file))
    if found.bundle != folder.hash:
        raise DataError(
            "validation.json belongs to another bundle",
            file=file,
            expected=folder.hash[:12],
            got=found.bundle[:12],
            remedy="Remove it, or validate this bundle.",
        )
    if found.content != content_hash(found.model_copy(update={"content": ""})):
        raise DataError(
            "validation.json was changed after it was made, or is of another version",
            file=file,
            remedy="Remove it, or validate this bundle again.",
        )
    return found
