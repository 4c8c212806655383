"""The key of a fit covers everything that determines it, and only that."""

from __future__ import annotations

import ast
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from small_study import FLAT, plan_of, small_cohorts, small_settings

from connectome_tl import training
from connectome_tl.cohort.splits import make_split_plan
from connectome_tl.settings.core import CoreSettings
from connectome_tl.settings.features import Confounds, FeatureSettings, HarmoniseSettings
from connectome_tl.settings.objectives import DenoisingAutoencoder, MaskedEdges
from connectome_tl.settings.study import SplitSettings
from connectome_tl.settings.training import Training
from connectome_tl.training import plans
from connectome_tl.training.plans import FitPlan, RowSet, Transfer, code_version

COHORTS = small_cohorts()
FOLD = make_split_plan(COHORTS.target, SplitSettings(repeats=1, outer=3, stratum="cognitive")).repeats[0][0]
LINEAGE = plan_of(FOLD).lineage()
RANDOM_START, NETWORK = (plan for plan in LINEAGE if plan.stage == "finetune")
(ADAPT,) = (plan for plan in LINEAGE if plan.stage == "adapt")

OF_PLAN: dict[str, Callable[[FitPlan], FitPlan]] = {
    "stage": lambda p: replace(p, stage="pretrain"),
    "train": lambda p: replace(p, train=replace(p.train, ids=p.train.ids[:-1])),
    "tasks": lambda p: replace(p, tasks=p.tasks[:1]),
    "modalities": lambda p: replace(p, modalities=("connectome",)),
    "features": lambda p: replace(p, features=FeatureSettings(confounds=Confounds(columns=("age",)))),
    "seed": lambda p: replace(p, seed=5),
    "model": lambda p: replace(p, model=FLAT),
    "core": lambda p: replace(p, core=CoreSettings()),
    "training": lambda p: replace(p, training=Training(steps=9)),
    "objective": lambda p: replace(p, objective=MaskedEdges()),
    "device": lambda p: replace(p, device="cuda"),
    "checkpoints": lambda p: replace(p, checkpoints=(0.0,)),
    "inner": lambda p: replace(p, inner=p.inner[::-1]),
    "devices": lambda p: replace(p, devices=2),
    "chosen_by": lambda p: replace(p, chosen_by=p.train),
    "others": lambda p: replace(p, others=(("source", p.train),)),
    "parents": lambda p: replace(p, parents=()),
    "transfer": lambda p: replace(p, transfer=Transfer(scaling="parent")),
}
OF_ROWS: dict[str, Callable[[RowSet], RowSet]] = {
    "ids": lambda r: replace(r, ids=r.ids[::-1]),
    "data": lambda r: replace(r, data="other"),
    "labels": lambda r: replace(r, labels=r.ids[::-1]),
    "kinds": lambda r: replace(r, kinds=("multiclass",)),
}
OF_TRANSFER: dict[str, Callable[[Transfer], Transfer]] = {
    "carry": lambda t: replace(t, carry=("encoder", "heads")),
    "scaling": lambda t: replace(t, scaling="parent"),
    "fresh_heads": lambda t: replace(t, fresh_heads=("motor_score",)),
    "unpredictable": lambda t: replace(t, unpredictable=not t.unpredictable),
}
LEFT_OUT = {FitPlan: {"label", "predict", "keep"}, RowSet: {"cohort"}, Transfer: set()}


@pytest.mark.parametrize(
    ("kind", "changes"), [(FitPlan, OF_PLAN), (RowSet, OF_ROWS), (Transfer, OF_TRANSFER)], ids=lambda v: str(v)[:20]
)
def test_every_field_is_in_the_key_or_is_named_here(kind: type, changes: dict[str, Any]) -> None:
    """A new field needs a change above; a field that is no longer compared fails."""
    assert {f.name for f in fields(kind)} == set(changes) | LEFT_OUT[kind]
    assert not set(changes) & LEFT_OUT[kind]


@pytest.mark.parametrize("name", OF_PLAN)
def test_each_compared_field_of_a_plan_changes_the_key(name: str) -> None:
    changed = OF_PLAN[name](NETWORK)
    assert getattr(changed, name) != getattr(NETWORK, name)
    assert changed.key != NETWORK.key


@pytest.mark.parametrize("name", OF_ROWS)
def test_each_compared_field_of_rows_changes_the_key(name: str) -> None:
    assert replace(NETWORK, train=OF_ROWS[name](NETWORK.train)).key != NETWORK.key
    beside = replace(ADAPT, others=(("source", ADAPT.train),))
    assert replace(ADAPT, others=(("source", OF_ROWS[name](ADAPT.train)),)).key != beside.key


@pytest.mark.parametrize("name", OF_TRANSFER)
def test_each_compared_field_of_a_transfer_changes_the_key(name: str) -> None:
    assert replace(NETWORK, transfer=OF_TRANSFER[name](NETWORK.transfer)).key != NETWORK.key


def test_names_that_decide_nothing_are_not_in_the_key() -> None:
    assert replace(NETWORK, label="x").key == NETWORK.key
    assert replace(NETWORK, predict=()).key == NETWORK.key
    assert replace(NETWORK, keep=False).key == NETWORK.key
    assert replace(NETWORK, train=replace(NETWORK.train, cohort="elsewhere")).key == NETWORK.key
    assert plan_of(FOLD).on_cohort("target", "elsewhere").key == plan_of(FOLD).key


def test_all_plans_of_a_study_that_differ_have_other_keys() -> None:
    schemes = ("full", "scratch", "no_pretrain", "no_adapt", "no_clinical", "core_permuted_source")
    members = {plan.key: plan for scheme in schemes for plan in plan_of(FOLD, scheme=scheme).lineage()}
    contents = [replace(plan, label="", predict=(), keep=True) for plan in members.values()]
    assert all(one != other for i, one in enumerate(contents) for other in contents[:i])


# Random pairs: any leaf of a plan, of its settings and of its parents.
Place = tuple[str | int, ...]


def leaves(value: Any, place: Place = ()) -> Iterator[Place]:
    """Positions of all compared values."""
    if is_dataclass(value):
        for f in fields(value):
            if f.compare:
                yield from leaves(getattr(value, f.name), (*place, f.name))
    elif hasattr(value, "model_dump"):
        for name in type(value).model_fields:
            yield from leaves(getattr(value, name), (*place, name))
    elif isinstance(value, tuple) and value:
        for i, item in enumerate(value):
            yield from leaves(item, (*place, i))
    else:
        yield place


def changed_at(value: Any, place: Place, rng: random.Random) -> Any:
    if not place:
        return other_than(value, rng)
    first, rest = place[0], place[1:]
    if isinstance(value, tuple):
        return tuple(changed_at(item, rest, rng) if i == first else item for i, item in enumerate(value))
    inner = changed_at(getattr(value, str(first)), rest, rng)
    if is_dataclass(value):
        return replace(value, **{str(first): inner})  # type: ignore[type-var]
    return value.model_copy(update={str(first): inner})


def other_than(value: Any, rng: random.Random) -> Any:
    if value is None:
        return rng.choice([0, 1.5, "x"])
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + rng.randint(1, 9)
    if isinstance(value, float):
        return value + rng.choice([1e-9, 0.5])
    if isinstance(value, str):
        return value + rng.choice("xyz")
    if isinstance(value, dict):
        return {**value, "further": 1.0}
    return (*value, "further")


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_a_thousand_plans_that_differ_in_one_value_have_other_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FitPlan, "parts", ())
    monkeypatch.setattr(plans, "code_version", lambda _: "")  # computed once, to save time
    rng = random.Random(0)
    rich = FeatureSettings(harmonise=HarmoniseSettings(method="combat"), confounds=Confounds(columns=("age",)))
    denoising = replace(ADAPT, objective=DenoisingAutoencoder(), features=rich)
    bases = [replace(plan) for plan in (*LINEAGE, denoising)]  # without keys that were computed before
    places = {plan.key: list(leaves(plan)) for plan in bases}
    drawn = set()
    for _ in range(1000):
        plan = rng.choice(bases)
        place = rng.choice(places[plan.key])
        other = changed_at(plan, place, rng)
        drawn.add(place)
        assert other != plan, place
        assert other.key != plan.key, place
    assert len(drawn) > 200


def test_changed_code_changes_the_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(plans, "code_version", lambda _: "other code")
    assert replace(NETWORK).key != NETWORK.key
    monkeypatch.undo()
    want = code_version([])
    for package in plans._PACKAGES:
        assert [file for folder in package.__path__ for file in Path(folder).rglob("*.py")], package
    (tmp_path / "loop.py").write_text("steps = 1\n")
    found = []
    for text in ("steps = 1\n", "steps = 2\n"):
        (tmp_path / "loop.py").write_text(text)
        plans._own_code.cache_clear()
        with monkeypatch.context() as patched:
            patched.setattr(training, "__path__", [str(tmp_path)])
            found.append(code_version([]))
    plans._own_code.cache_clear()
    assert len({want, *found}) == 3
    assert code_version([]) == want


_NOT_COMPUTING = {
    "distributed",
    "joblib",
    "lightning_fabric",
    "pandas",
    "pydantic",
    "pydantic_core",
    "safetensors",
    "threadpoolctl",
    "torch_pruning",
}
_DISTRIBUTION = {"sklearn": "scikit-learn", "torch_geometric": "torch-geometric"}


def test_the_key_covers_the_version_of_every_library_that_computes_a_fit() -> None:
    imported: set[str] = set()
    for package in plans._PACKAGES:
        for file in (file for folder in package.__path__ for file in Path(folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.Import):
                    imported |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module is not None:
                    imported.add(node.module.partition(".")[0])
    foreign = imported - set(sys.stdlib_module_names) - {"connectome_tl"} - _NOT_COMPUTING
    assert {_DISTRIBUTION.get(name, name) for name in foreign} == set(plans._LIBRARIES)


def test_a_title_or_a_place_of_a_cohort_changes_no_key() -> None:
    study = small_settings()
    moved = small_settings(title="Another title", target={"cohort": "elsewhere.yaml", "tasks": study.target.tasks})
    assert plan_of(FOLD, moved).key == plan_of(FOLD, study).key
