"""The locked children of ABIDE are tested once per release (`benchmarks/transfer.py --confirm`); made-up data."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

import connectome_tl
from connectome_tl.cohort.splits import Fold, SplitPlan
from connectome_tl.errors import UsageError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def transfer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("transfer", ROOT / "benchmarks" / "transfer.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def made_up(folder: Path, n: int = 150) -> pd.DataFrame:
    """A table and edges of the form of the data set, of noise."""
    rng = np.random.default_rng(0)
    sites = np.array(["NYU", "UM_1", "KKI", "STANFORD"])[np.arange(n) % 4]
    age = np.where(np.isin(sites, ["KKI", "STANFORD"]) | (np.arange(n) % 8 < 4), 10.0, 20.0) + rng.uniform(-2, 2, n)
    scores = {name: rng.normal(100, 15, n).round() for name in ("fiq", "viq", "piq")}
    table = pd.DataFrame(
        {
            "sub": [f"s{i:03d}" for i in range(n)], "age": age.round(2), "sex": rng.choice(["M", "F"], n),
            "dx": rng.choice(["ASD", "control"], n), "site": sites, "mean_fd": rng.uniform(0.05, 0.5, n), **scores,
        }
    )  # fmt: skip
    place = folder / "abide_fc_aal116"
    place.mkdir(parents=True)
    table.to_csv(place / "participants.tsv", sep="\t", index=False)
    np.savez(place / "fc_upper_f16.npz", fc=np.tanh(rng.normal(0, 0.3, (n, 6670))).astype(np.float16))
    return table


def test_a_release_is_confirmed_once(
    transfer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table, ledger = made_up(tmp_path / "data"), tmp_path / "ledger.tsv"
    monkeypatch.setenv("CONNECTOME_TL_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(connectome_tl, "__version__", "9.9.0")
    monkeypatch.setattr(transfer, "commit_of", lambda _: "abc")
    tested = []
    predict = transfer.linear_predictions

    def watched(settings, cohorts, splits, *rest):  # type: ignore[no-untyped-def]
        tested.extend(splits.repeats)
        lines = ledger.read_text().splitlines()
        assert len(lines) == 2, "the run is in the ledger before it has predictions"
        return predict(settings, cohorts, splits, *rest)

    monkeypatch.setattr(transfer, "linear_predictions", watched)
    given = ["--confirm", "--ledger", str(ledger), "--quick", "--core-alone", "--keep", str(tmp_path)]
    transfer.main(given)
    child = table[table["age"] < 13].set_index("sub")["site"]
    locked = set(child[child.isin(["KKI", "STANFORD"])].index)
    ((fold,),) = tested
    assert set(fold.test) == locked
    assert set(fold.train) <= set(child.index) - locked
    lines = pd.read_csv(ledger, sep="\t", dtype={"commit": str})
    assert set(lines["version"]) == {"9.9.0"}
    scored = lines[lines["model"].notna()]
    assert set(scored["task"]) == {"diagnosis", "age", "fiq", "viq", "piq"}
    assert set(scored["n"]) == {len(locked)}
    before = ledger.read_bytes()
    with pytest.raises(UsageError, match=r"9\.9\.0 was tested on the locked children before"):
        transfer.main(given)
    assert ledger.read_bytes() == before
    monkeypatch.setattr(connectome_tl, "__version__", "9.10.0")
    with pytest.raises(UsageError, match="only a release"):
        transfer.Ledger(ledger, "9.10.0.dev0", "abc").begin()


def test_a_run_that_was_stopped_resumes_with_the_same_commit_only(transfer: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "ledger.tsv"
    transfer.Ledger(file, "1.0.0", "abc").begin()
    transfer.Ledger(file, "1.0.0", "abc").begin()
    assert len(file.read_text().splitlines()) == 2
    with pytest.raises(UsageError, match="before"):
        transfer.Ledger(file, "1.0.0", "def").begin()
    transfer.Ledger(file, "1.1.0", "def").begin()
    for commit in ("", "abc"):
        with pytest.raises(UsageError, match="only a release"):
            transfer.Ledger(file, "2.0.dev1" if commit else "2.0.0", commit).begin()


def test_a_plan_without_locked_children_is_refused(transfer: ModuleType) -> None:
    plan = SplitPlan(((Fold(("a",), ("b",)), Fold(("a",), ("c",))),))
    assert transfer.confirming(plan, {"a", "b", "c"}, ("a", "b", "c", "d")).repeats == ((Fold(("a",), ("d",)),),)
    with pytest.raises(UsageError, match="no children of the locked sites"):
        transfer.confirming(plan, {"a", "b", "c"}, ("a", "b", "c"))


def test_the_locked_children_are_tested_with_the_default_settings_only(transfer: ModuleType, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.tsv"
    with pytest.raises(SystemExit):
        transfer.main(["--confirm", "--ledger", str(ledger), "--set", "model.encoder.kind=gcn"])
    assert not ledger.exists()
