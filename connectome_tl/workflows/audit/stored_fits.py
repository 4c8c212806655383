"""Stores that read the fits of a finished run and write nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from connectome_tl.audit.stored import unlike
from connectome_tl.errors import DataError
from connectome_tl.provenance import content_hash
from connectome_tl.training.checkpoint import FitResult, FitStore

SPOT_CHECKS = 2  # stored fits of one folder that are trained again


class StoredFits(FitStore):
    """Fits of a finished run, read and never written."""

    def save(self, result: FitResult, *, keep_state: bool) -> None:
        """Keep nothing: an audit changes no fit of the run."""
        del result, keep_state


@dataclass(frozen=True)
class SpotCheckedFits(StoredFits):
    """Stored fits of which some are made again: all mixtures, which take no time, and a few that are trained.

    The choice is a function of the stored content, so that it cannot be avoided by an edit.

    Attributes:
        known: keys of fits that are compared elsewhere. exactly: whether fits are repeated to the last bit.
    """

    known: frozenset[str] = frozenset()
    exactly: bool = True

    @cached_property
    def chosen(self) -> frozenset[str]:
        """Keys of the fits that are trained again."""
        files = [file for file in self.folder.glob("*.json") if file.stem not in self.known]
        files.sort(key=lambda file: content_hash(file.read_bytes()))
        return frozenset(file.stem for file in files[:SPOT_CHECKS])

    def load(self, key: str, *, state: bool) -> FitResult | None:
        """The stored fit, or None where it is to be made again; raises as `FitStore.load` does."""
        found = super().load(key, state=state)
        again = found is not None and (key in self.chosen or (found.stage == "mixture" and key not in self.known))
        return None if again else found

    def save(self, result: FitResult, *, keep_state: bool) -> None:
        """Compare a new fit with the stored one.

        Raises:
            DataError: they differ.
        """
        del keep_state
        stored = super().load(result.key, state=False)
        wrong = [] if stored is None else unlike(stored, replace(result, arrays={}), exactly=self.exactly)
        if wrong:
            raise DataError(
                f"a stored fit ({result.stage}) does not follow from the settings and data: {', '.join(wrong)}",
                file=self.folder / f"{result.key}.json",
                remedy="It was edited. Delete the folder models/ and run the study again.",
            )
