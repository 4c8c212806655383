"""Workers killed with SIGKILL, on SQLite and on PostgreSQL: no trial is lost, none is counted twice."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial
from postgres_server import postgres_server
from tuning_cases import tuned_study, write_study

from connectome_tl.config import load_settings
from connectome_tl.errors import OutputError, UsageError
from connectome_tl.evaluation.tuning.inner import InnerFolds
from connectome_tl.evaluation.tuning.storage import BEGUN, MAX_RETRY, SET_ASIDE, open_storage
from connectome_tl.report import tuning
from connectome_tl.settings.study import StudySettings
from connectome_tl.settings.tuning import Tuned
from connectome_tl.workflows.study.tune import tune_study

pytestmark = pytest.mark.slow

TRIALS, FOLDS = 4, 2
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A separate search, since a search name is unique in a database."""
    settings = tuned_study(trials=TRIALS, outer=FOLDS, prune=False)
    seed = random.SystemRandom().randrange(10**9)
    return write_study(tmp_path / "study", settings.model_copy(update={"seed": seed}))


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with postgres_server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "sqlite" else request.getfixturevalue("postgres")


def _slow_scores(self: InnerFolds, study: StudySettings, heard: object = None) -> tuple[float, ...]:
    """A trial of an eighth of a second, whose score is a function of its settings."""
    time.sleep(0.125)
    return (1.0 / (1.0 + abs((study.edges.n_edges or 0) - 11) + (study.core.clip or 0.0)),)


def _work(study: Path, out: Path, storage: str | None, hang_at: int) -> None:
    calls = itertools.count(1)

    def scores(*arguments: Any) -> tuple[float, ...]:
        if next(calls) == hang_at:
            time.sleep(600)
        return _slow_scores(*arguments)

    InnerFolds.scores = scores  # type: ignore[method-assign]
    tuning.render_search = lambda _: ""  # type: ignore[assignment]
    tune_study(study, out, storage=storage, heartbeat=1)


def worker(study: Path, out: Path, storage: str | None, *, hang_at: int = 0) -> Any:
    """A process that tunes; it never ends its trial number `hang_at`, counted from 1."""
    process = FORK.Process(target=_work, args=(study, out, storage, hang_at), daemon=True)
    process.start()
    return process


def trials_of(out: Path, storage: str | None) -> dict[str, list[FrozenTrial]]:
    """All trials in the database of this search, by fold."""
    url = storage or f"sqlite:///{out / 'trials.sqlite'}"
    identity = (out / "search.txt").read_text()[:16] if (out / "search.txt").is_file() else "none"
    with open_storage(url, heartbeat=1) as database:
        names = [name for name in optuna.get_all_study_names(database) if name.startswith(identity)]
        return {name: optuna.load_study(study_name=name, storage=database).trials for name in names}


def counted(trials: Mapping[str, list[FrozenTrial]]) -> Counter[str]:
    return Counter(trial.state.name for of_fold in trials.values() for trial in of_fold)


def until(out: Path, storage: str | None, n_complete: int) -> None:
    """Wait until this number of trials is complete and another one runs, or all are complete."""
    end = time.monotonic() + 60
    while True:
        assert time.monotonic() < end
        time.sleep(0.03)
        found = counted(trials_of(out, storage)) if (out / "search.txt").is_file() else Counter[str]()
        if found["COMPLETE"] >= n_complete and (found["RUNNING"] or found["COMPLETE"] == FOLDS * TRIALS):
            return


def _most_kills(out: Path) -> int:
    """Largest number of killed workers of an open trial."""
    if not (out / "search.txt").is_file() or not (out / "trials.sqlite").is_file():
        return 0
    every = [trial for of_fold in trials_of(out, None).values() for trial in of_fold]
    done = {number for t in every if t.state.name == "COMPLETE" for number in t.system_attrs.get("retry_history", [])}
    return max((len(t.system_attrs.get("retry_history", [])) for t in every if t.number not in done), default=0)


def kill(process: Any) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.join(10)
    assert process.exitcode == -signal.SIGKILL


def assert_whole(out: Path, storage: str | None) -> None:
    """Every fold has its trials, each once; a lost one was run again with the same settings, once."""
    trials = trials_of(out, storage)
    assert len(trials) == FOLDS
    assert set(counted(trials)) <= {"COMPLETE", "FAIL"}
    for of_fold in trials.values():
        assert sum(trial.state.name == "COMPLETE" for trial in of_fold) == TRIALS
        lost = [t for t in of_fold if t.state.name == "FAIL" and SET_ASIDE not in t.user_attrs]
        for one in lost:
            kept = [t for t in of_fold if one.number in t.system_attrs.get("retry_history", [])]
            ended = [t for t in kept if t.state.name == "COMPLETE"]
            assert len(ended) == 1, (one.number, [(t.number, t.state) for t in kept])
            assert one.params.items() <= ended[0].params.items()
    table = (out / "trials.tsv").read_text().splitlines()[1:]
    assert len(table) == FOLDS * TRIALS
    assert len(Tuned.model_validate(_found(out)).folds) == FOLDS


def _found(out: Path) -> dict[str, Any]:
    import json

    content = json.loads((out / "tuned.json").read_text())
    del content["content"]
    return content


@pytest.mark.filterwarnings("default")
def test_of_two_workers_one_killed_at_any_moment_leaves_no_gap(
    study: Path, tmp_path: Path, storage: str | None
) -> None:
    """The remaining worker takes over lost trials, including the last one, although no new trial starts."""
    out = tmp_path / "tuned"
    first, second = (worker(study, out, storage) for _ in range(2))
    moment = random.SystemRandom().uniform(0.0, 0.8)
    until(out, storage, 1)
    time.sleep(moment)
    if first.is_alive():  # at the latest moments it may have ended
        os.kill(first.pid, signal.SIGKILL)
    first.join(10)
    second.join(60)
    assert second.exitcode == 0, f"killed after {moment} s"
    assert_whole(out, storage)


@pytest.mark.filterwarnings("default")
def test_the_last_trial_of_a_killed_worker_is_not_lost(study: Path, tmp_path: Path, storage: str | None) -> None:
    out = tmp_path / "tuned"
    first = worker(study, out, storage, hang_at=FOLDS * TRIALS)
    until(out, storage, FOLDS * TRIALS - 1)
    kill(first)
    assert counted(trials_of(out, storage)) == {"COMPLETE": FOLDS * TRIALS - 1, "RUNNING": 1}
    second = worker(study, out, storage)
    second.join(60)
    assert second.exitcode == 0
    assert_whole(out, storage)


@pytest.mark.filterwarnings("default")
def test_twenty_kills_end_with_the_same_bytes_as_none(study: Path, tmp_path: Path) -> None:
    """At any moment of the start, of a trial, and of the end.

    Moments are fractions of the measured duration of the search. On a busy machine fixed moments would all hit the same
    trial, and a trial that has killed ten workers is abandoned; it is not killed that often.
    """
    start = time.monotonic()
    calm = worker(study, tmp_path / "calm", None)
    calm.join(300)
    assert calm.exitcode == 0
    whole = time.monotonic() - start
    out, rng, killed = tmp_path / "tuned", random.SystemRandom(), 0
    while killed < 20:
        process = worker(study, out, None)
        process.join(rng.uniform(0.02, 0.35) * whole)
        if process.is_alive() and _most_kills(out) >= MAX_RETRY - 1:
            until(out, None, counted(trials_of(out, None))["COMPLETE"] + 1)
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
        process.join(60)
        assert process.exitcode in (0, -signal.SIGKILL)
        if process.exitcode:  # it may have ended between the check and the signal
            killed += 1
        elif killed >= 10:  # everything is done: later kills have no effect
            break
    last = worker(study, out, None)
    last.join(300)
    assert last.exitcode == 0
    assert_whole(out, None)
    for name in ("tuned.json", "trials.tsv", "report.html"):
        assert (out / name).read_bytes() == (tmp_path / "calm" / name).read_bytes()


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_a_trial_that_died_before_its_first_heartbeat_or_its_retry_is_queued_again(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Optuna alone does not recover either."""
    monkeypatch.setattr(InnerFolds, "scores", _slow_scores)
    monkeypatch.setattr(tuning, "render_search", lambda _: "")
    out = tmp_path / "tuned"
    tune_study(study, out, trials=1)
    (name, *_) = sorted(trials_of(out, None))
    with open_storage(f"sqlite:///{out / 'trials.sqlite'}", heartbeat=1) as database:
        search = optuna.load_study(study_name=name, storage=database)
        never, failed = search.ask(), search.ask()
        search.tell(failed, state=optuna.trial.TrialState.FAIL)
        assert BEGUN not in search.trials[never.number].user_attrs
    tune_study(study, out)
    assert_whole(out, None)
    history = [t.system_attrs.get("retry_history") for t in trials_of(out, None)[name]]
    assert [never.number] in history
    assert [failed.number] in history


@pytest.mark.parametrize(
    ("url", "kind", "said"),
    [
        ("postgresql://me:secret@/x?host=/nowhere", OutputError, r"me:\*\*\*@/x.*cannot be reached"),
        ("postgresql://me:secret@127.0.0.1:1/x", OutputError, r"cannot be reached.*connection failed.*port 1"),
        ("nonsense", UsageError, "expected postgresql://"),
        ("oracle://me:secret@host/x", UsageError, "expected postgresql://"),
    ],
)
def test_a_database_that_cannot_be_opened_is_named_without_its_password(
    url: str, kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said) as refusal, open_storage(url, heartbeat=60):
        pass
    assert "secret" not in str(refusal.value)


def test_a_damaged_database_is_said_in_one_line(study: Path, tmp_path: Path) -> None:
    (tmp_path / "trials.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(OutputError, match=r"trials\.sqlite cannot be reached or read: .*Delete the file"):
        tune_study(load_settings(study, StudySettings), tmp_path, base=study.parent)
