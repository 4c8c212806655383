"""Find the file of each subject by patterns with `{id}`, and match ids of tables, files and stacks."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from connectome_tl.cohort.columns.ids import odd_letters, written_alike
from connectome_tl.cohort.findings import Findings, listed
from connectome_tl.errors import MissingInputError, Problem, UsageError
from connectome_tl.files import is_hidden, is_there, matching
from connectome_tl.plurals import counted


def found_files(pattern: str, folder: Path, findings: Findings, *, other: Iterable[str] = ()) -> dict[str, Path]:
    """Find files that match a pattern, by the id in their name; `other` are files to be ignored.

    `{id}` is replaced by the id and may occur twice (`sub-{id}/sub-{id}_relmat.tsv`); `*` matches anything within one
    folder or file name, and a part `**` any number of folders. A part of the pattern that names an existing folder
    refers to that folder, even if it contains `*` or `{id}`, but not the part with the last `{id}`. Hidden files
    (`._sub-01.csv` of macOS) are ignored. Ids are in Unicode form NFC, as those of tables are, whatever the file
    system uses. Two files of one subject are a problem.

    Raises:
        MissingInputError: no such folder. UsageError: the pattern does not determine the id.
    """
    root, parts = _fixed_part(Path(pattern), folder)
    if not root.is_dir():
        raise MissingInputError("folder not found", file=root)
    tail = "/".join(parts)
    if "{id}*" in tail or "*{id}" in tail:
        raise UsageError(
            "{id} and * are adjacent, so the end of the id is ambiguous",
            got=pattern,
            remedy="Write the text between them, for example {id}_*.csv.",
        )
    name = re.compile(_as_regex(tail))
    wildcard = re.sub(r"([\[\]?])", r"[\1]", tail).replace("{id}", "*")
    wildcard = "/".join(part if part == "**" else re.sub(r"\*{2,}", "*", part) for part in wildcard.split("/"))
    tables = {os.path.realpath(folder / name) for name in other}
    found: dict[str, Path] = {}
    for path in matching(root, wildcard):
        match = name.fullmatch(path.relative_to(root).as_posix())
        hidden = is_hidden(path.name) and not tail.rpartition("/")[2].startswith(".")
        if match is None or hidden or not is_there(path) or os.path.realpath(path) in tables:
            continue
        subject = unicodedata.normalize("NFC", match.group("id"))
        if not subject.isprintable():
            findings.problems.append(
                Problem("a file name contains characters that cannot be displayed", got=ascii(path.name), file=root)
            )
            continue
        if subject in found:
            findings.problems.append(
                Problem(
                    "two files of one subject fit the pattern",
                    subject=subject,
                    file=path,
                    got=f"also {found[subject].name}",
                    remedy="Make the pattern narrower (session, atlas, measure).",
                )
            )
        else:
            found[subject] = path
    return found


def _fixed_part(pattern: Path, folder: Path) -> tuple[Path, list[str]]:
    """The folder of a pattern up to its first wildcard, and the parts that follow."""
    root = Path(pattern.anchor) if pattern.is_absolute() else folder
    parts = list(pattern.relative_to(pattern.anchor).parts)
    while parts:
        wild = "{id}" in parts[0] or "*" in parts[0]
        last_id = "{id}" in parts[0] and not any("{id}" in part for part in parts[1:])
        if wild and (last_id or len(parts) == 1 or not (root / parts[0]).is_dir()):
            break
        root = root / parts.pop(0)
    return root, parts


def _as_regex(tail: str) -> str:
    pieces = re.split(r"(\{id\}|(?:(?<=/)|^)\*\*/|\*+)", tail)
    text, seen = "", False
    for piece in pieces:
        if piece == "{id}":
            text += "(?P=id)" if seen else r"(?P<id>[^/]+?)"
            seen = True
        elif piece == "**/":
            text += r"(?:[^/]+/)*"
        else:
            text += r"[^/]*" if piece and not piece.strip("*") else re.escape(piece)
    return text


def name_of(pattern: str, subject: str) -> str:
    """The file of a subject; `sub-` is not repeated if pattern and id have it."""
    bare = subject.removeprefix("sub-")
    return pattern.replace("sub-{id}", f"sub-{bare}").replace("{id}", subject)


_SINGULAR = {
    "were left out": "was left out",
    "stay without one": "stays without one",
    "are unknown there": "is unknown there",
}


@dataclass(frozen=True)
class Search:
    """Search for the data of subjects; problems are added to `findings`.

    Attributes:
        ids: requested subjects, in the order of the table.
        everyone: all ids of the table, before `select`.
        folder: folder that paths are relative to.
        unmatched: whether data without a subject, and subjects without data, are refused or dropped; `missing` drops
            data and keeps subjects.
        dropping: name of the setting that drops them.
        reasons: reasons for not reading the matrix of a subject, by id.
    """

    ids: Sequence[str]
    everyone: Sequence[str]
    folder: Path
    findings: Findings
    unmatched: Literal["refuse", "drop", "missing"] = "refuse"
    dropping: str = "unmatched: drop"
    reasons: Mapping[str, str] = field(default_factory=dict)

    def owners(
        self, available: Iterable[str], *, what: str, file: str | Path, lacking: str = "were left out"
    ) -> dict[str, str]:
        """Map table ids to the ids of their data; `sub-` is optional.

        Args:
            available: ids of files or of rows of a stack.
            lacking: text on the treatment of rows without data, if they are not refused.

        Returns:
            Only ids that have data. Others, and data without a row in the table, are problems, or notes if they are
            not refused. Ids that differ only in zero padding are always problems.
        """
        there = tuple(dict.fromkeys(available))
        found = self._matched(there)
        without = [subject for subject in self.ids if subject not in found]
        extra = self._of_nobody(there, what)
        settled = self._written_differently(without, extra, what, file)
        without = [subject for subject in without if subject not in settled]
        extra = [name for name in extra if name not in settled]
        if self.unmatched == "refuse":
            self._refuse(without, extra, found, there, what=what, file=file)
        else:
            self._drop(without, extra, what, lacking)
        return found

    def _matched(self, there: Sequence[str]) -> dict[str, str]:
        """The id of the data of each subject that has any."""
        short = {name.removeprefix("sub-"): name for name in there}
        whole = dict.fromkeys(there)
        names = {i: i if i in whole else short.get(i.removeprefix("sub-")) for i in self.ids}
        return {subject: name for subject, name in names.items() if name is not None}

    def _of_nobody(self, there: Sequence[str], what: str) -> list[str]:
        """Ids of data without a row in the table; further files of known subjects are a note."""
        known = {subject.removeprefix("sub-") for subject in self.everyone}
        extra = [name for name in there if name.removeprefix("sub-") not in known]
        # BIDS ids contain no underscore.
        longer = [name for name in extra if any(name.removeprefix("sub-").startswith(f"{one}_") for one in known)]
        if longer:
            self.findings.notes.append(
                f"{len(longer)} further files fit the pattern of {what} and were not read: {longer[0]}"
            )
        return [name for name in extra if name not in set(longer)]

    def _written_differently(
        self, without: Sequence[str], extra: Sequence[str], what: str, file: str | Path
    ) -> set[str]:
        """Ids of the table and of the data that differ only in how they are written, which is a problem."""
        pairs = written_alike(without, extra)
        self.findings.several(
            [(subject, f"is {name!r} there{odd_letters(subject, name)}") for subject, name in pairs],
            f"the id is written differently for {what}",
            file,
            "Leading zeros, capital letters or blanks were lost or added, by a spreadsheet perhaps, or similar "
            "characters (O and 0) exchanged; write the id the same everywhere.",
        )
        return {one for pair in pairs for one in pair}

    def _drop(self, without: Sequence[str], extra: Sequence[str], what: str, lacking: str) -> None:
        notes = self.findings.notes
        if without:
            fate = _SINGULAR.get(lacking, lacking) if len(without) == 1 else lacking
            notes.append(f"{counted(len(without), 'row')} without {what} {fate}: {listed(without)}")
        if extra:
            notes.append(f"left out, because no row of the table has this id ({what}): {listed(extra)}")

    def _refuse(
        self,
        without: Sequence[str],
        extra: Sequence[str],
        found: Mapping[str, str],
        there: Sequence[str],
        *,
        what: str,
        file: str | Path,
    ) -> None:
        problems = self.findings.problems
        if without:
            remedy = f"Exclude the rows with select, or set {self.dropping}."
            lying = [name for name in there if name not in set(found.values())]
            if not found and lying and "{id}" in str(file):
                remedy = "Does the pattern contain more, or less, than the id? Compare a name with an id."
            elif not found and lying:
                remedy = "Are these ids? Name the table's id column (region_features.id, or id of connectomes.rows)."
            problems.append(self._absent(without, what, file, lying, remedy))
        if extra and found:
            rows = f"{len(extra)} of {len(there)}: {listed(extra)}"
            remedy = f"Add their rows, or set {self.dropping}."
            problems.append(Problem(f"{what} but no row in the table", got=rows, file=file, remedy=remedy))

    def _absent(
        self, without: Sequence[str], what: str, file: str | Path, lying: Sequence[str], remedy: str
    ) -> Problem:
        """One problem for all rows without data, with the expected and the existing files."""
        pattern = str(file)
        looked = name_of(pattern, without[0]) if "{id}" in pattern else f"the id {without[0]!r}"
        names = [pattern.replace("{id}", one) if "{id}" in pattern else repr(one) for one in lying]
        if not names and "{id}" in pattern:
            folder = self.folder / os.path.dirname(pattern.split("{id}")[0])
            names = [path.name for path in matching(folder, "*") if is_there(path)]
        return Problem(
            f"in the table but without {what}: {len(without)} of {len(self.ids)} rows ({listed(without)})",
            expected=looked,
            got=f"no such file; found {listed(names, 3)}" if names else "nothing there",
            file=file,
            remedy=remedy,
        )
