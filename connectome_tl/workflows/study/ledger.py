"""Ledger of test scores: which configurations were evaluated on the same subjects.

Choosing settings after a look at test scores makes the best of them too good, and no single run folder
shows it. So each reveal is appended to `log/` of the run and to one file beside the run folders, which
outlives a deleted run. Times and names stay there; the report shows configurations alone, so that the
same study still gives the same bytes. Subjects are kept as keyed hashes, with a key per look: the ledger tells how many
subjects two looks share, and no id can be read from it or followed from one line to the next.
"""

from __future__ import annotations

import getpass
import hmac
import json
import logging
import secrets
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from connectome_tl.plurals import counted
from connectome_tl.provenance import canonical_json
from connectome_tl.settings.base import Record
from connectome_tl.settings.records.results import ResultTable, RunRecord

LEDGER = "test_scores.jsonl"
SAME_SUBJECTS = 0.5  # share of the smaller set from which on two looks are at the same subjects
_LENGTH = 10  # hexadecimal digits of a subject's hash


class Reveal(Record):
    """One look at test scores.

    `infants` is the hash of the target's ids; `subjects` holds a hash of each tested id under `key`, one after the
    other, so that a cohort that has lost some is still known; `configuration` is the hash of all settings and data
    that decide a result.
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

    @property
    def hashes(self) -> frozenset[str]:
        return frozenset(self.subjects[k : k + _LENGTH] for k in range(0, len(self.subjects), _LENGTH))

    def shared(self, record: RunRecord) -> int:
        """How many of the record's tested subjects this look was at."""
        return len(self.hashes & _hashes(tested(record), self.key)) if self.key else 0

    def is_at(self, record: RunRecord) -> bool:
        """Whether this was a look at the record's subjects: the same ids, or at least half of the smaller set."""
        ids = tested(record)
        smaller = min(len(self.hashes), len(ids))
        return self.infants == record.provenance.get("infants", "") or (
            smaller > 0 and self.shared(record) >= SAME_SUBJECTS * smaller
        )


def tested(record: RunRecord) -> frozenset[str]:
    """Ids whose predictions the record holds."""
    return frozenset(prediction.subject for prediction in record.predictions)


def reveal(folder: Path, how: str, record: RunRecord) -> None:
    """Append one look to the run's ledger and to the one beside it; nothing that is there is changed."""
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
    line = canonical_json(look) + "\n"
    for path in _files(folder):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "a", encoding="utf-8") as stream:
                stream.write(line)  # one short write in append mode: two runs do not mix their lines
        except OSError as error:
            logging.getLogger("connectome_tl").warning("no entry in the ledger %s: %s", path.name, error.strerror)


def looks(folder: Path, record: RunRecord) -> tuple[Reveal, ...]:
    """Every recorded look at test scores of the record's subjects, the oldest first; damaged lines are left out."""
    found: dict[str, Reveal] = {}
    for path in _files(folder):
        found |= {line: look for line, look in _lines(path).items() if look is not None}
    return tuple(sorted((one for one in found.values() if one.is_at(record)), key=lambda one: one.time))


def doubts(folder: Path) -> tuple[str, ...]:
    """What in the two ledgers of a run cannot have been written as it is: damaged, edited and removed lines."""
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
        found.append(f"{counted(edited, 'look is', 'looks are')} told differently in log/ and beside the folder")
    if not any(look.how == "run" for look in looks_inside):
        found.append("the look of the run itself is not in log/")
    # A folder that was moved has left its first looks behind; whatever came after one that is there must be there.
    known = {look.time for look in looks_beside}
    shared = [look.time for look in looks_inside if look.time in known]
    gone = [look for look in looks_inside if shared and look.time > min(shared) and look.time not in known]
    if gone:
        found.append(
            f"{counted(len(gone), 'look of log/ is', 'looks of log/ are')} not in the ledger beside the folder"
        )
    return tuple(found)


def _lines(path: Path) -> dict[str, Reveal | None]:
    """Lines of a ledger that is there, and what each says; None where it says nothing."""
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
    """The record with what the ledger says of it: a table, and a warning where other configurations were seen.

    Args:
        until_first: only what was seen before this configuration was first; whatever is tried later, a
            run that is resumed or repeated then ends with the same bytes.
    """
    own = record.provenance.get("configuration", "")
    order = list(dict.fromkeys(one.configuration for one in seen))
    if until_first and own in order:
        order = order[: order.index(own) + 1]
    last = {one.configuration: one for one in seen}
    rows = tuple(
        (
            str(number),
            name[:12] + (" (this run)" if name == own else ""),
            _in_common(last[name], record),
            last[name].split_plan[:12],
            ", ".join(last[name].models),
        )
        for number, name in enumerate(order, start=1)
    )
    table = ResultTable(
        section="audit",
        title=f"Test scores of these subjects were seen under {_configurations(len(order))}",
        columns=("", "Configuration", "Subjects in common", "Split plan", "Models scored"),
        rows=rows,
        note="In the order in which they were first seen, as far as the ledgers in this run's log/ and beside its "
        f"folder ({LEDGER}) know; these also say when and by whom. The best of several is better than it will be.",
    )
    others = len(order) - (own in order)
    warning = (
        f"Test scores of these subjects were also seen under {_configurations(others)} other than this one. If it was "
        "chosen by them, its scores are too good.",
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
