"""Ledger of test scores: which configurations were evaluated on the same subjects.

Choosing settings after viewing test scores makes the best score optimistic, which a single run folder does not show.
Therefore, each view of test scores is appended to `log/` of the run and to a file next to the run folders, which
persists when a run is deleted. Times and names are only stored there; the report lists configurations, so that the same
study gives the same bytes. Subjects are stored as keyed hashes with a new key per entry: the number of subjects that
two entries share can be computed, but ids cannot be recovered or linked between entries.
"""

from __future__ import annotations

import getpass
import hmac
import json
import logging
import secrets
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from connectome_tl.plurals import counted
from connectome_tl.provenance import canonical_json
from connectome_tl.settings.base import Record
from connectome_tl.settings.records.results import ResultTable, RunRecord

LEDGER = "test_scores.jsonl"
SAME_SUBJECTS = 0.5  # smallest overlap, relative to the smaller set, of two entries on the same subjects
_DIGITS, _THIS_RUN = 12, " (this run)"  # of a configuration in the table of the report
TITLE = "Test scores of these subjects were evaluated with"
Row = tuple[str, str, str, str]
_LENGTH = 10  # hexadecimal digits of a subject's hash


class Reveal(Record):
    """One view of test scores.

    `infants` is the hash of the target's ids; `subjects` is the concatenation of hashes of the tested ids under `key`,
    so that a subset of the cohort is recognised; `configuration` is the hash of all settings and data that affect
    results; `place` is the hash, under `key`, of the folder whose ledger has the same line, "" for none.
    """

    time: str
    who: str
    how: str  # run, report, audit
    infants: str
    configuration: str
    split_plan: str
    models: tuple[str, ...]
    key: str = ""
    subjects: str = ""
    place: str = ""

    @property
    def hashes(self) -> frozenset[str]:
        """Hashes of the subjects."""
        return frozenset(self.subjects[k : k + _LENGTH] for k in range(0, len(self.subjects), _LENGTH))

    def shared(self, record: RunRecord) -> int:
        """Number of the record's tested subjects in this entry."""
        return len(self.hashes & _hashes(tested(record), self.key)) if self.key else 0

    def is_from(self, parent: Path) -> bool:
        """Whether this entry was also written to the ledger of this folder."""
        return bool(self.place) and self.place == _place(parent, self.key)

    def is_at(self, record: RunRecord) -> bool:
        """Whether this entry concerns the record's subjects: equal ids, or an overlap of half of the smaller set."""
        ids = tested(record)
        smaller = min(len(self.hashes), len(ids))
        return self.infants == record.provenance.get("infants", "") or (
            smaller > 0 and self.shared(record) >= SAME_SUBJECTS * smaller
        )


def tested(record: RunRecord) -> frozenset[str]:
    """Ids with predictions in the record."""
    return frozenset(prediction.subject for prediction in record.predictions)


def reveal(folder: Path, how: str, record: RunRecord) -> None:
    """Append one entry to the ledgers of the run and of its parent folder; existing entries are not changed."""
    key = secrets.token_hex(16)
    look = Reveal(
        time=datetime.now(UTC).isoformat(timespec="microseconds"),
        who=_who(),
        how=how,
        infants=record.provenance.get("infants", ""),
        configuration=record.provenance.get("configuration", ""),
        split_plan=record.split_hash,
        models=tuple(dict.fromkeys(score.model for score in record.scores)),
        key=key,
        subjects="".join(sorted(_hashes(tested(record), key))),
    )
    inside, beside = _files(folder)
    with suppress(OSError):
        beside.parent.mkdir(parents=True, exist_ok=True)
    placed = look.model_copy(update={"place": _place(beside.parent, key)})
    _append(inside, placed if _append(beside, placed) else look)


def _append(path: Path, look: Reveal) -> bool:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8") as stream:
            stream.write(canonical_json(look) + "\n")  # a single short write, so that lines of two runs are not mixed
    except OSError as error:
        logging.getLogger("connectome_tl").warning("no entry in the ledger %s: %s", path.name, error.strerror)
        return False
    return True


def _place(parent: Path, key: str) -> str:
    """Keyed hash of a folder, which is another one after a move or on another machine."""
    number = parent.stat().st_ino if parent.is_dir() else 0
    return hmac.digest(key.encode(), f"{parent} {number}".encode(), "sha256").hex()


def looks(folder: Path, record: RunRecord) -> tuple[Reveal, ...]:
    """All entries on the record's subjects, the oldest first, without damaged lines."""
    found: dict[str, Reveal] = {}
    for path in _files(folder):
        found |= {line: look for line, look in _lines(path).items() if look is not None}
    return tuple(sorted((one for one in found.values() if one.is_at(record)), key=lambda one: one.time))


def doubts(folder: Path) -> tuple[str, ...]:
    """Problems of the two ledgers of a run: damaged, edited and removed lines."""
    inside, beside = (_lines(path) for path in _files(folder))
    damaged = sum(look is None for look in {**inside, **beside}.values())
    found = [f"{counted(damaged, 'line')} cannot be read"] if damaged else []
    looks_inside, looks_beside = ([look for look in part.values() if look is not None] for part in (inside, beside))
    if not looks_inside:
        return tuple(found)
    by_key: dict[str, set[Reveal]] = {}
    for look in (*looks_inside, *looks_beside):
        by_key.setdefault(look.key or look.time, set()).add(look)
    edited = sum(len(versions) > 1 for versions in by_key.values())
    if edited:
        differ = counted(edited, "evaluation differs", "evaluations differ")
        found.append(f"{differ} between log/ and the ledger next to the folder")
    if not any(look.how == "run" for look in looks_inside):
        found.append("the evaluation of the run is not in log/")
    # Evaluations in another place are in the ledger of that place; of this one, all after an existing one must exist.
    known = {look.time for look in looks_beside}
    parent = folder.resolve().parent
    here = [look for look in looks_inside if look.is_from(parent)]
    shared = [look.time for look in here if look.time in known]
    gone = [look for look in here if shared and look.time > min(shared) and look.time not in known]
    if gone:
        found.append(
            f"{counted(len(gone), 'evaluation in log/ is', 'evaluations in log/ are')} "
            "not in the ledger next to the folder"
        )
    return tuple(found)


def _lines(path: Path) -> dict[str, Reveal | None]:
    """Lines of an existing ledger, and the content of each; None if it has none."""
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    found: dict[str, Reveal | None] = {}
    for line in lines:
        try:
            found[line] = Reveal.model_validate(json.loads(line))
        except (ValueError, ValidationError, RecursionError):
            found[line] = None
    return found


def with_ledger(record: RunRecord, seen: Sequence[Reveal], *, until_first: bool) -> RunRecord:
    """Add a table of the ledger to the record, and a warning if other configurations were viewed.

    Args:
        until_first: use only entries before the first one of this configuration, so that a resumed or repeated run
            gives the same bytes, independent of later entries.
    """
    own = record.provenance.get("configuration", "")
    order = list(dict.fromkeys(one.configuration for one in seen))
    if until_first and own in order:
        order = order[: order.index(own) + 1]
    last = {one.configuration: one for one in seen}
    return with_rows(record, [row_of(last[name], record) for name in order])


def row_of(look: Reveal, record: RunRecord) -> Row:
    """A row of the table of configurations, without its number."""
    own = _THIS_RUN if look.configuration == record.provenance.get("configuration", "") else ""
    in_common = _in_common(look, record)
    return look.configuration[:_DIGITS] + own, in_common, look.split_plan[:_DIGITS], ", ".join(look.models)


def may_show(folder: Path, record: RunRecord, rows: Sequence[Row]) -> bool:
    """Whether a page may have these rows: all are in the ledger, and all entries before the run are among them."""
    seen, parent = looks(folder, record), folder.resolve().parent
    first = next((look for look in seen if row_of(look, record)[0].endswith(_THIS_RUN)), None)
    before = [look for look in seen if first and first.is_from(parent) and look.time < first.time]
    needed = {row_of(look, record)[0] for look in before if look.is_from(parent)}
    return {row_of(look, record) for look in seen} >= set(rows) and {row[0] for row in rows} >= needed


def with_rows(record: RunRecord, rows: Sequence[Row]) -> RunRecord:
    """`with_ledger` with these rows."""
    table = ResultTable(
        section="audit",
        title=f"{TITLE} {_configurations(len(rows))}",
        columns=("", "Configuration", "Subjects in common", "Split plan", "Models scored"),
        rows=tuple((str(number), *row) for number, row in enumerate(rows, start=1)),
        note="In the order of their first evaluation, from the ledgers in this run's log/ and next to its "
        f"folder ({LEDGER}), which also contain times and users. The best of several is optimistic.",
    )
    others = sum(not row[0].endswith(_THIS_RUN) for row in rows)
    warning = (
        f"Test scores of these subjects were also evaluated with {_configurations(others)} other than this one. If "
        "this one was chosen by them, its scores are too good.",
    )
    return record.model_copy(
        update={"tables": (*record.tables, table), "warnings": (*record.warnings, *(warning if others else ()))}
    )


def _hashes(ids: Collection[str], key: str) -> frozenset[str]:
    return frozenset(hmac.digest(key.encode(), i.encode(), "sha256").hex()[:_LENGTH] for i in ids)


def _in_common(look: Reveal, record: RunRecord) -> str:
    if look.infants == record.provenance.get("infants", ""):
        return "all"
    return f"{look.shared(record)} of {len(look.hashes)}"


def _files(folder: Path) -> tuple[Path, Path]:
    return folder / "log" / LEDGER, folder.resolve().parent / LEDGER


def _configurations(n: int) -> str:
    return f"{n} configuration{'' if n == 1 else 's'}"


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a user table
        return "unknown"
