"""Shared by all tests: real data, results computed once for all workers, and the order of the tests."""

from __future__ import annotations

import gc
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from filelock import FileLock

# Workers of pytest-xdist share the cores: threads of linear algebra would wait for each other. NumPy and torch read
# these when they are imported.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
# Processes that tests start would otherwise compile the package again, half a second of CPU time each.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# A run forces each of its files to the disk; files of tests need not outlive a power failure.
os.fsync = lambda _: None

# On a busy machine an example may take any time.
hypothesis.settings.register_profile("busy", deadline=None)
hypothesis.settings.load_profile("busy")

MadeOnce = Callable[[str, Callable[[Path], object]], Path]


@pytest.hookimpl(trylast=True)  # of the tests that `-m` selects
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Modules with slow tests first, distributed over the workers, so that all workers end with short tests.

    `--dist worksteal` gives each worker a contiguous part of the list; tests of a module stay together, since they
    share fixtures.
    """
    n_workers = getattr(config, "workerinput", {}).get("workercount", 1)
    modules = [list(group) for _, group in groupby(items, key=lambda item: item.nodeid.partition("::")[0])]
    modules.sort(key=lambda group: not any(item.get_closest_marker("slow") for item in group))
    hands: list[list[pytest.Item]] = [[] for _ in range(n_workers)]
    slow = [group for group in modules if any(item.get_closest_marker("slow") for item in group)]
    for i, group in enumerate(slow):
        hands[i % n_workers] += group
    for group in modules[len(slow) :]:
        min(hands, key=len).extend(group)
    items[:] = [item for hand in hands for item in hand]


def pytest_collection_finish() -> None:
    """Objects of imported modules live as long as the worker: the garbage collector need not search them."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 10, 10)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data, read only; the test is skipped where it is absent."""
    folder = Path(os.environ.get("CONNECTOME_TL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}; set CONNECTOME_TL_DATA")
    return folder


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """`made_once(name, make)`: the folder that `make(folder)` filled, once for all workers. It must not be changed."""
    base = tmp_path_factory.getbasetemp()
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def once(name: str, make: Callable[[Path], object]) -> Path:
        folder, done = root / f"once-{name}", root / f"once-{name}.done"
        with FileLock(root / f"once-{name}.lock"):
            if not done.is_file():
                shutil.rmtree(folder, ignore_errors=True)  # of a worker whose `make` failed
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return once


@pytest.fixture(scope="module")
def without_figures() -> Iterator[None]:
    """Pages that a module draws and audits have empty figures: for tests of results, text and tables."""
    from tests.small_study import figures_left_out

    with figures_left_out():
        yield


@pytest.fixture(scope="session")
def fitted_before() -> dict[str, Any]:
    """The fits of `audits_fit_once` so far, by the hash of what they were made from."""
    return {}


@pytest.fixture
def fits_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal fits of one test are made once and in this process, so that an audit repeats none of its run's.

    For tests of commands that follow each other; that an audit fits anew is tested in `tests/audit`.
    """
    from connectome_tl.provenance import content_hash
    from connectome_tl.training import fit as module

    made: dict[str, Any] = {}
    fitted, run = module._fitted, module._run

    def once(plan: Any, context: Any, store: Any) -> Any:
        key = content_hash(plan.key, module._contents(plan, context), plan.predict, plan.keep)
        if store is not None or key not in made:
            made[key] = fitted(plan, context, store)
        return made[key]

    def here(plans: Any, cohorts: Any, done: Any, store: Any, n_jobs: int, *rest: Any) -> Any:
        return run(plans, cohorts, done, store, 1, *rest)

    monkeypatch.setattr(module, "_fitted", once)
    monkeypatch.setattr(module, "_run", here)


@pytest.fixture(scope="session")
def drawn_before() -> dict[str, Any]:
    """The pages of `audits_draw_once` so far, by the hash of what they show."""
    return {}


@pytest.fixture
def audits_draw_once(drawn_before: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Audits draw equal pages with their tables once in this process; folders with figures are drawn as usual."""
    from connectome_tl.provenance import content_hash
    from connectome_tl.report.figures.sheet import Sheet
    from connectome_tl.workflows.audit import pages as module

    draw = module._drawn

    def once(folder: Path, record: Any, found: Any, timing: Any, *known: Any) -> Any:
        if (folder / module.FIGURES).is_dir():
            return draw(folder, record, found, timing, *known)
        key = content_hash(record, found, list(timing), Sheet.draw.__module__)  # another one `without_figures`
        if key not in drawn_before:
            drawn_before[key] = draw(folder, record, found, timing, *known)
        return drawn_before[key]

    monkeypatch.setattr(module, "_drawn", once)


@pytest.fixture
def audits_fit_once(fitted_before: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Audits fit equal plans on equal rows once in this process: most tests audit copies of one run.

    Corrupted or reordered rows, another outcome or other subjects to predict are other inputs, and are fitted.
    """
    from connectome_tl.audit import replay
    from connectome_tl.provenance import content_hash
    from connectome_tl.training.fit import fit, unique_plans

    def once(plans: Any, cohorts: Any, **options: Any) -> Any:
        wanted = list(plans)
        rows = {role: [cohort.ids, cohort.rows_hash(cohort.ids)] for role, cohort in sorted(cohorts.items())}
        key = content_hash([[k, plan.predict, plan.keep] for k, plan in unique_plans(wanted).items()], rows)
        if key not in fitted_before:
            fitted_before[key] = fit(wanted, cohorts, **options)
        return dict(fitted_before[key])

    monkeypatch.setattr(replay, "fit", once)
