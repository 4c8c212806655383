"""The three commands: files, messages, exit codes; and the model card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from connectome_tl.bundle.bundle import open_bundle
from connectome_tl.bundle.folder import CARD, CARD_JSON, FILES, METADATA, WEIGHTS
from connectome_tl.bundle.spans import outward
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.cohort.splits import SplitPlan
from connectome_tl.errors import UsageError
from connectome_tl.provenance import content_hash
from connectome_tl.settings.core import CoreSettings
from connectome_tl.settings.features import HarmoniseSettings
from connectome_tl.settings.study import SplitSettings
from connectome_tl.workflows.release.bundle import BundleOptions, bundle_run
from connectome_tl.workflows.study.study_run import read_run
from tests.bundle.bundle_study import run_of, study_cohorts

Leave = Callable[..., tuple[int, str]]

# What `monai.bundle` writes into a new metadata.json (MONAI 1.6).
MONAI_KEYS = {
    "version", "changelog", "monai_version", "pytorch_version", "numpy_version", "required_packages_version", "task",
    "description", "authors", "copyright", "network_data_format",
}  # fmt: skip


@pytest.fixture
def leave(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Leave:
    from connectome_tl import cli

    monkeypatch.setenv("CONNECTOME_TL_DEBUG", "")
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)

    def call(*arguments: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as left:
            cli.main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        assert isinstance(left.value.code, int)
        return left.value.code, said.out + said.err

    return call


def test_bundle_predict_and_validate_from_the_command_line(home: Path, tmp_path: Path, leave: Leave) -> None:
    code, said = leave("bundle", home / "run", "--out", tmp_path / "b", "--authors", "A. Author", "--licence", "CC0")
    assert code == 0
    assert str(tmp_path / "b") in said
    opened = open_bundle(tmp_path / "b")
    assert opened.hash in said
    assert "Authors: A. Author. Licence: CC0." in (tmp_path / "b" / CARD).read_text()
    cohort = home / "elsewhere" / "cohort.yaml"
    code, said = leave("predict", tmp_path / "b", cohort, "--out", tmp_path / "p.tsv")
    assert code == 0
    assert "values of single subjects withheld" in said
    assert "Research only, not for care." in said
    code, said = leave("validate", tmp_path / "b", cohort, "--out", tmp_path / "v")
    assert code == 0
    assert sorted(path.name for path in (tmp_path / "v").iterdir()) == [
        "report.html", "results.json", "scores.json", "scores.tsv", "validation.json",
    ]  # fmt: skip


def test_wrong_use_and_damage_leave_with_their_exit_codes(home: Path, bundle_copy: Path, leave: Leave) -> None:
    cohort = home / "elsewhere" / "cohort.yaml"
    out = bundle_copy.parent / "p.tsv"
    assert leave("bundle", home / "run", "--out", bundle_copy, "--model", "ridge")[0] == 64
    assert leave("bundle", home / "run", "--out", bundle_copy, "--fit", "median")[0] == 64
    assert (
        leave("bundle", home / "run", "--out", home / "target")[0] == 64
    )  # the folder is not empty and is not a bundle
    assert leave("bundle", home / "nothing", "--out", bundle_copy)[0] == 66
    assert leave("predict", home / "nothing", cohort, "--out", out)[0] == 66
    assert leave("predict", home / "target", cohort, "--out", out)[0] == 65  # a folder that is not a bundle
    (bundle_copy / WEIGHTS).write_bytes(b"x")
    code, said = leave("predict", bundle_copy, cohort, "--out", out)
    assert code == 65
    assert "the size differs from the manifest" in said
    (bundle_copy / "more.pkl").write_bytes(b"x")
    assert (
        "the folder has files that do not belong to a bundle" in leave("validate", bundle_copy, cohort, "--out", out)[1]
    )


def test_the_same_run_gives_the_same_bytes_from_python(home: Path, tmp_path: Path) -> None:
    again = read_run(home / "run").bundle(tmp_path / "again")
    for name in (*FILES, "manifest.json"):
        assert (again / name).read_bytes() == (home / "bundle" / name).read_bytes(), name


def test_the_card_says_the_expected_scores_of_the_run(home: Path) -> None:
    facts = open_bundle(home / "bundle").facts
    run = read_run(home / "run")
    for one in facts.tasks:
        told = {s.metric: s for s in run.record.scores if (s.task, s.model) == (one.task.name, "full")}
        assert {score.metric for score in one.expected} == set(told)
        for score in one.expected:
            assert score.value == pytest.approx(round(told[score.metric].value, 2), nan_ok=True)
            assert score.low == pytest.approx(round(told[score.metric].low, 2), nan_ok=True)
        comparison = next(
            c for c in run.record.comparisons
            if (c.task, c.model, c.control) == (one.task.name, "full", "clinical_only")
        )  # fmt: skip
        assert one.against_clinical == comparison.verdict
    card = (home / "bundle" / CARD).read_text()
    for text in ("Research only, not for care", "Simulated data", "the mean over the 4 fits", "2 sites"):
        assert text in card
    said = json.loads((home / "bundle" / CARD_JSON).read_text())
    assert said["sections"][0]["title"] == "Model"
    assert "one refit on all infants" in (home / "refit" / CARD).read_text()


def test_metadata_has_the_keys_of_a_monai_bundle(home: Path) -> None:
    said = json.loads((home / "bundle" / METADATA).read_text())
    assert set(said) > MONAI_KEYS
    outputs = said["network_data_format"]["outputs"]["pred"]
    assert outputs["num_channels"] == len(outputs["channel_def"]) == 2
    assert set(said["network_data_format"]["inputs"]) == {"connectome", "clinical"}


def test_counts_under_ten_are_not_said(tmp_path: Path) -> None:
    """A study of 24 with few positives: the count is hidden, and scores with two decimals do not reveal it."""
    cohorts = study_cohorts()
    target = cohorts.target
    positive = target.targets["cognitive"].eq(1).to_numpy()
    keep = [i for i, p in zip(target.ids, positive, strict=True) if not p] + [
        i for i, p in zip(target.ids, positive, strict=True) if p
    ][:8]
    few = cohorts.with_role("target", target.take([i for i in target.ids if i in keep]))
    run = run_of(tmp_path, few, splits=SplitSettings(repeats=1, outer=2, stratum="cognitive"))
    facts = open_bundle(bundle_run(run, tmp_path / "b", BundleOptions(model="core"))).facts
    one = facts.tasks[0]
    assert one.n_positive == "< 10"
    card = (tmp_path / "b" / CARD).read_text()
    assert "\\< 10 positive" in card
    assert all(round(s.value, 2) == s.value for s in one.expected if np.isfinite(s.value))


@pytest.mark.slow
def test_radial_kernels_are_left_out_and_the_linear_core_is_scored_again(tmp_path: Path) -> None:
    splits = SplitSettings(repeats=1, outer=2, stratum="cognitive", seed=3)
    run = run_of(tmp_path, core=CoreSettings(rbf_from=10), splits=splits)
    told = {s.metric: s.value for s in read_run(run).record.scores if (s.task, s.model) == ("cognitive", "core")}
    made = bundle_run(run, tmp_path / "b", BundleOptions(model="core"))
    facts = open_bundle(made).facts
    assert facts.linear_core
    assert "radial kernels, which contain training rows" in (made / CARD).read_text()
    linear = run_of(tmp_path / "linear", core=CoreSettings(rbf_from=10**9), splits=splits)
    wanted = {s.metric: s.value for s in read_run(linear).record.scores if (s.task, s.model) == ("cognitive", "core")}
    found = {s.metric: s.value for s in facts.tasks[0].expected}
    assert found["brier"] == round(wanted["brier"], 2)
    assert found["auc"] == round(wanted["auc"], 2)
    assert wanted["brier"] != told["brier"]
    assert scored_by_hand(made, run) == (found["auc"], found["brier"])


def scored_by_hand(bundle: Path, run: Path) -> tuple[float, float]:
    """AUC over pairs of a fold and Brier score of the fits in the bundle, each on its held-out fold."""
    cohort = read_cohort(run.parent / "target" / "cohort.yaml")
    y = cohort.targets["cognitive"].to_numpy()
    each = open_bundle(bundle).members.predict_each(cohort, cohort.ids)[:, :, 0]
    folds = [fold for _, _, fold in SplitPlan.load(run / "split_plan.json").folds()]
    pairs, squares = [], []
    for risk, fold in zip(each, folds, strict=True):
        at = cohort.positions(fold.test)
        at = at[np.isfinite(y[at])]
        positive, negative = risk[at][y[at] == 1], risk[at][y[at] == 0]
        pairs += [(p > n) + 0.5 * (p == n) for p in positive for n in negative]
        squares += list((risk[at] - y[at]) ** 2)
    return round(float(np.mean(pairs)), 2), round(float(np.mean(squares)), 2)


def test_names_of_sites_leave_only_where_they_may(tmp_path: Path) -> None:
    settings = HarmoniseSettings(method="combat", unseen="reference")
    run = run_of(tmp_path, harmonise=settings, splits=SplitSettings(repeats=1, outer=2, stratum="cognitive"))
    silent = bundle_run(run, tmp_path / "silent", BundleOptions(model="core"))
    assert open_bundle(silent).facts.limits.sites == ()
    for name in FILES:
        if name.endswith(".json"):
            assert '"A"' not in (silent / name).read_text()


def test_what_changed_after_the_run_is_refused(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home, tmp_path / "home", ignore=shutil.ignore_patterns("bundle", "refit", "elsewhere"))
    copy = tmp_path / "home"
    table = copy / "run" / "predictions.tsv"
    lines = table.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if "\tfull\t" in line)
    cells = lines[at].split("\t")
    cells[6] = str(float(cells[6]) / 2 + 0.001)
    table.write_text("\n".join([*lines[:at], "\t".join(cells), *lines[at + 1 :]]) + "\n")
    from connectome_tl.errors import DataError

    with pytest.raises(DataError, match=r"no longer has the predictions in predictions\.tsv"):
        bundle_run(copy / "run", tmp_path / "b")
    participants = copy / "target" / "participants.tsv"
    participants.write_text(participants.read_text().replace("female", "male", 1))
    with pytest.raises(DataError, match="cohorts have changed since the run: target"):
        bundle_run(copy / "run", tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_a_model_that_the_study_has_not_is_named(home: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected full, core, network"):
        bundle_run(home / "run", tmp_path / "b", BundleOptions(model="scratch"))


def test_limits_are_rounded_outwards() -> None:
    rng = np.random.default_rng(0)
    for scale in (1e-6, 0.03, 1.0, 40.0, 3e5):
        values = scale * rng.normal(3, 1, 50)
        span = outward(values)
        assert span is not None
        assert span.low <= values.min()
        assert span.high >= values.max()
        assert span.high - span.low < 1.6 * np.ptp(values)
        assert span.low not in values
    assert outward(np.full(3, np.nan)) is None


def test_the_hash_is_that_of_all_content(home: Path, bundle_copy: Path) -> None:
    assert open_bundle(bundle_copy).hash == content_hash((home / "bundle" / "manifest.json").read_bytes())
