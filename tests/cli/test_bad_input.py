"""Bad input to `run`: one clear message, the right exit code, no result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from .study_on_disk import Command, contents, edit


def _matrices(target: Path, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    with np.load(target / "matrices.npz") as stored:
        arrays = dict(stored)
    change(arrays)
    np.savez(target / "matrices.npz", **arrays)


def _cell(target: Path, row: int, column: str, text: str) -> None:
    file = target / "participants.tsv"
    lines = [line.split("\t") for line in file.read_text().splitlines()]
    lines[row][lines[0].index(column)] = text
    file.write_text("\n".join("\t".join(line) for line in lines) + "\n")


def _nan(target: Path) -> None:
    _matrices(target, lambda a: a["weights"].__setitem__((4, 0, 1, 2), np.nan))


def _asymmetric(target: Path) -> None:
    _matrices(target, lambda a: a["weights"].__setitem__((4, 0, 1, 2), 77.0))


def _wrong_size(target: Path) -> None:
    _matrices(target, lambda a: a.update(weights=a["weights"][:, :, :-1, :-1]))


def _no_row(target: Path) -> None:
    _matrices(target, lambda a: a.update({name: a[name][:-1] for name in ("weights", "node_mask", "ids")}))


def _no_matrices(target: Path) -> None:
    (target / "matrices.npz").unlink()


def _not_matrices(target: Path) -> None:
    (target / "matrices.npz").write_bytes(b"PK\x03\x04 not really")


def _duplicate(target: Path) -> None:
    _cell(target, 3, "participant_id", "target001")


def _bare_age(target: Path) -> None:
    edit(target / "cohort.yaml", lambda c: c.update(age="age_at_scan"))


def _unknown_key(target: Path) -> None:
    edit(target / "cohort.yaml", lambda c: c.update(particpants=c.pop("participants")))


def _text_outcome(target: Path) -> None:
    _cell(target, 2, "bayley_cognitive", "delayed")


def _text_covariate(target: Path) -> None:
    _cell(target, 2, "birth_weight", "small")


def _death(target: Path) -> None:
    def change(cohort: dict) -> None:
        for outcome in cohort["outcomes"]:
            outcome["status"].pop("died", None)

    edit(target / "cohort.yaml", change)


def _unknown_study_key(target: Path) -> None:
    edit(target.parent / "study.yaml", lambda s: s.update(permutation=3))


def _unknown_task(target: Path) -> None:
    edit(target.parent / "study.yaml", lambda s: s["target"].update(tasks=["cognition"]))


def _unknown_source_task(target: Path) -> None:
    edit(target.parent / "study.yaml", lambda s: s["source"].update(tasks=["iq"]))


def _unknown_stratum(target: Path) -> None:
    edit(target.parent / "study.yaml", lambda s: s["splits"].update(stratum="cognition"))


def _unknown_confound(target: Path) -> None:
    edit(target.parent / "study.yaml", lambda s: s.update(confounds={"columns": ["mean_fdd"]}))


def _too_many_folds(target: Path) -> None:
    edit(target.parent / "study.yaml", lambda s: s["splits"].update(outer=30))


def _no_cohort(target: Path) -> None:
    edit(target.parent / "study.yaml", lambda s: s["pool"].update(cohort="absent/cohort.yaml"))


def _other_measure(target: Path) -> None:
    edit(target / "cohort.yaml", lambda c: c["connectomes"].update(measure="count"))


def _source_holds_targets(target: Path) -> None:
    edit(target.parent / "study.yaml", lambda s: s.update(source={"cohort": "target/cohort.yaml", "tasks": ["motor"]}))


def _own_covariate(target: Path) -> None:
    new = {"column": "bayley_cognitive", "unit": "points"}
    edit(target / "cohort.yaml", lambda c: c["covariates"].append(new))


FAULTS: list[tuple[Callable[[Path], None], int, tuple[str, ...]]] = [
    (_nan, 65, ("target005", "NaN")),
    (_asymmetric, 65, ("target005", "symmetric")),
    (_wrong_size, 65, ("matrices.npz",)),
    (_no_row, 65, ("matrices.npz",)),
    (_no_matrices, 66, ("matrices.npz",)),
    (_not_matrices, 65, ("matrices.npz",)),
    (_duplicate, 65, ("target001",)),
    (_bare_age, 64, ("weeks or years",)),
    (_unknown_key, 64, ("particpants", "line ", "Did you mean participants?")),
    (_text_outcome, 65, ("bayley_cognitive", "delayed", "target002")),
    (_text_covariate, 65, ("birth_weight", "small", "target002")),
    (_death, 65, ("died",)),
    (_unknown_study_key, 64, ("permutation", "Did you mean permutations?", "line ")),
    (_unknown_task, 65, ("cognition", "cognitive")),
    (_unknown_source_task, 64, ("iq", "age, sex")),
    (_unknown_stratum, 64, ("cognition", "cognitive")),
    (_unknown_confound, 64, ("mean_fdd", "mean_fd")),
    (_too_many_folds, 64, ("too few subjects", "30")),
    (_no_cohort, 66, ("absent/cohort.yaml",)),
    (_other_measure, 65, ("measures", "count", "fbc")),
    (_own_covariate, 64, ("bayley_cognitive", "its own covariate", "role: nuisance")),
    (_source_holds_targets, 65, ("test fold", "source cohort")),
]


LATE = (_source_holds_targets,)


@pytest.mark.parametrize(("spoil", "code", "said"), FAULTS, ids=[fault[0].__name__.strip("_") for fault in FAULTS])
def test_each_fault_is_one_clear_message(
    command: Command, study: Path, tmp_path: Path, spoil: Callable[[Path], None], code: int, said: tuple[str, ...]
) -> None:
    spoil(study.parent / "target")
    out = tmp_path / "out"
    answer = command("run", study, "--out", out)
    for part in said:
        assert part in answer.err, answer.err
    assert answer.code == code, answer.err
    assert answer.err.count("Error:") == 1
    assert "Traceback" not in answer.err
    assert answer.out == ""
    # No results; at most the settings and splits, if the first fit is refused.
    left = set(contents(out)) if out.exists() else set()
    assert left == set() or (left == {"study.yaml", "split_plan.json"} and spoil in LATE)


def test_several_faults_are_told_at_once(command: Command, study: Path, tmp_path: Path) -> None:
    target = study.parent / "target"
    _text_outcome(target)
    _text_covariate(target)
    answer = command("run", study, "--out", tmp_path / "out")
    assert answer.code == 65
    assert "delayed" in answer.err
    assert "small" in answer.err


@pytest.mark.slow
def test_settings_mended_after_a_refusal_run_in_the_same_folder(command: Command, study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert command("run", study, "--out", out, "--set", "source.tasks=[iq]").code == 64
    small = ("permutations=0", "controls=[]", "baselines=[]", "splits.repeats=1")
    assert command("run", study, "--out", out, *(word for one in small for word in ("--set", one))).code == 0
