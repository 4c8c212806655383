"""Settings files: strict, with line and most similar valid key; malicious files are refused, never executed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from connectome_tl.config import dump_settings, load_settings, parse_settings
from connectome_tl.errors import DataError, MissingInputError, UsageError
from connectome_tl.settings.base import Settings
from connectome_tl.settings.cohort import CohortSettings
from connectome_tl.settings.encoders import FlatEncoder
from connectome_tl.settings.features import Confounds
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.objectives import DenoisingAutoencoder
from connectome_tl.settings.study import CohortUse, SplitSettings, StudySettings
from connectome_tl.settings.training import Adapt, FineTune, Stages, Training
from connectome_tl.settings.tuning import TuneSettings
from connectome_tl.settings_lines import with_lines
from connectome_tl.workflows.study.results import read_record

RATE = "stages.finetune.training.learning_rate"
COHORTS = "source: {cohort: a.yaml}\npool: {cohort: b.yaml}\ntarget: {cohort: c.yaml}\n"
EXAMPLES = Path(__file__).parents[1] / "configs" / "example"


def refusal(text: str, *overrides: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse_settings(text, StudySettings, file="study.yaml", overrides=overrides)
    assert caught.value.exit_code == 64
    return str(caught.value)


@pytest.mark.parametrize(
    ("lines", "line", "path", "nearest"),
    [
        ("splitz: {repeats: 2}", 4, "splitz", "splits"),
        ("splits:\n  repeat: 2", 5, "splits.repeat", "repeats"),
        ("stages:\n  pretrain:\n    training:\n      step: 2", 7, "stages.pretrain.training.step", "steps"),
        ("model:\n  encoder:\n    kind: graph\n    n_layer: 3", 7, "model.encoder.n_layer", "n_layers"),
        ("model:\n  encoder:\n    kind: flat\n    width: [8]", 7, "model.encoder.width", "widths"),
    ],
)
def test_an_unknown_key_is_named_with_line_path_and_nearest_key(lines: str, line: int, path: str, nearest: str) -> None:
    said = refusal(COHORTS + lines + "\n")
    assert f"line {line}: {path}: unknown key" in said
    assert f"Did you mean {nearest}?" in said
    assert "study.yaml" in said


def test_a_key_of_the_file_in_a_block_is_said_to_be_one_of_the_file() -> None:
    said = refusal(COHORTS + "splits:\n  permutations: 99\n")
    assert "splits.permutations: unknown key" in said
    assert "Did you mean permutations of the file itself?" in said


def test_the_keys_of_a_file_below_a_heading_are_said_to_belong_one_level_higher(tmp_path: Path) -> None:
    space = {"space": {"model.dropout": {"low": 0.0, "high": 0.5}}}
    file = tmp_path / "space.yaml"
    file.write_text(yaml.safe_dump({"tune": space}))
    with pytest.raises(UsageError, match="Give the keys below `tune:` one level higher, without it"):
        load_settings(file, TuneSettings)
    file.write_text(yaml.safe_dump(space))
    assert set(load_settings(file, TuneSettings).space) == {"model.dropout"}


def test_keys_of_another_kind_are_not_offered() -> None:
    said = refusal(COHORTS + "model: {encoder: {kind: flat, n_layers: 2}}\n")
    expected = said.split("expected one of ")[1].split(".")[0]
    assert set(expected.split(", ")) == set(FlatEncoder.model_fields)


def test_a_union_without_its_kind_is_that_of_the_default_and_another_kind_has_its_own_keys() -> None:
    found = parse_settings(COHORTS + "model: {encoder: {width: 4}}\n", StudySettings).model.encoder
    assert found == ModelSettings().encoder.model_copy(update={"width": 4})
    other = parse_settings(COHORTS + "model: {encoder: {kind: flat}}\n", StudySettings).model.encoder
    assert other == FlatEncoder()
    assert "one of graph, flat, gcn" in refusal(COHORTS + "model: {encoder: {kind: round}}\n")


def blocks(settings: Settings, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Settings]]:
    """All blocks of settings below one, with the path to each."""
    found = [(path, settings)] if path else []
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, Settings):
            found += blocks(value, (*path, name))
    return found


WHOLE = parse_settings(COHORTS, StudySettings)
KEYS = [
    (".".join((*path, key)), getattr(block, key)) for path, block in blocks(WHOLE) for key in type(block).model_fields
]


def plain(value: object) -> object:
    return yaml.safe_load(dump_settings(value)) if isinstance(value, Settings) else json.loads(json.dumps(value))


@pytest.mark.parametrize(("key", "value"), KEYS, ids=[key for key, _ in KEYS])
def test_one_key_of_a_block_leaves_its_siblings_as_they_are(key: str, value: object) -> None:
    """The default of any key, set alone in the file or by --set, changes nothing."""
    *path, last = key.split(".")
    given = yaml.safe_load(COHORTS)
    here = given
    for name in path:
        here = here.setdefault(name, {})
    if isinstance(value, Settings):
        here[last] = {}  # an empty block equals no block
    else:
        here[last] = plain(value)
    assert parse_settings(yaml.safe_dump(given), StudySettings) == WHOLE
    text = "{}" if isinstance(value, Settings) else json.dumps(plain(value))
    if key.split(".")[0] not in ("source", "pool", "target"):
        assert parse_settings(COHORTS, StudySettings, overrides=[f"{key}={text}"]) == WHOLE


def test_every_block_is_walked_over() -> None:
    walked = {key for key, _ in KEYS}
    assert len(walked) > 80
    assert {
        "stages.pretrain.training.weight_decay",
        "stages.finetune.ensemble.networks",
        "model.clinical.width",
    } <= walked
    assert parse_settings(COHORTS, StudySettings, overrides=["stages.adapt.training.steps=7"]).stages.adapt == Adapt(
        training=Adapt().training.model_copy(update={"steps": 7})
    )


def test_a_target_alone_is_a_study() -> None:
    alone = parse_settings("target: {cohort: c.yaml}\n", StudySettings)
    assert (alone.stages.pretrain, alone.stages.adapt) == (None, None)
    assert alone.stages.finetune == WHOLE.stages.finetune
    changed = parse_settings("target: {cohort: c.yaml}\nstages: {finetune: {ensemble: {networks: 3}}}\n", StudySettings)
    assert changed.stages.finetune.ensemble == alone.stages.finetune.ensemble.model_copy(update={"networks": 3})
    assert (changed.stages.pretrain, changed.stages.adapt) == (None, None)
    assert parse_settings(dump_settings(alone), StudySettings) == alone


@pytest.mark.parametrize("stage", ["adapt", "finetune"])
@pytest.mark.parametrize("setting", ["freeze: [encodr]", "part_learning_rates: {encodr: 0.5}"])
def test_a_part_that_no_model_has_is_refused_with_those_it_has(stage: str, setting: str) -> None:
    said = refusal(COHORTS + f"stages: {{{stage}: {{training: {{{setting}}}}}}}\n")
    assert "no part is called encodr; parts are connectome, clinical, fusion, heads" in said
    assert f"stages.{stage}" in said


_SUPERVISED = {
    "mixup": {},
    "edge_noise": 0.1,
    "class_weights": "balanced",
    "task_weights": "gradient",
    "precision": "bf16",
}
_OF_TRANSFER = {
    "freeze": ["heads"], "anchor": 0.1, "unfreeze": 0.5, "rate_decay": 0.5, "part_learning_rates": {"heads": 0.5},
}  # fmt: skip


@pytest.mark.parametrize(("stage", "idle"), [("adapt", _SUPERVISED), ("pretrain", _OF_TRANSFER)])
def test_a_training_setting_without_effect_in_a_stage_is_refused_with_its_key(
    stage: str, idle: dict[str, object]
) -> None:
    both = _SUPERVISED | _OF_TRANSFER
    for name, value in both.items():
        text = COHORTS + json.dumps({"stages": {stage: {"training": {name: value}}}})[1:-1]
        if name in idle:
            said = refusal(text)
            assert f"stages.{stage}.training" in said
            assert f"{name} has no effect in stages.{stage}" in said
            assert "set it in stages.finetune.training" in said
        else:
            parse_settings(text, StudySettings)
    assert set(both) | {"steps", "batch_size", "learning_rate", "weight_decay", "clip_norm", "schedule"} == set(
        Training.model_fields
    )


@pytest.mark.parametrize(("name", "value"), [*_OF_TRANSFER.items(), ("scaling", "parent"), ("carry", ["encoder"])])
def test_settings_of_transfer_need_an_earlier_stage(name: str, value: object) -> None:
    last = {"finetune": {"training": {name: value}} if name in _OF_TRANSFER else {name: value}}
    alone = "target: {cohort: c.yaml}\n"
    said = refusal(alone + json.dumps({"stages": last})[1:-1])
    assert f"{name} has no effect in stages.finetune, which has no earlier stage" in said
    for earlier in ("source", "pool"):
        parse_settings(alone + f"{earlier}: {{cohort: d.yaml}}\n" + json.dumps({"stages": last})[1:-1], StudySettings)
    default = FineTune().training if name in _OF_TRANSFER else FineTune()
    given = plain(getattr(default, name))
    last = {"finetune": {"training": {name: given}} if name in _OF_TRANSFER else {name: given}}
    parse_settings(alone + json.dumps({"stages": last})[1:-1], StudySettings)


@pytest.mark.parametrize("kind", ["coral", "mmd", "adversarial", "self_training"])
def test_an_objective_with_source_rows_needs_a_source(kind: str) -> None:
    adapt = f"stages: {{adapt: {{objective: {{kind: {kind}}}}}}}\n"
    parse_settings(COHORTS + adapt, StudySettings)
    pool_alone = "pool: {cohort: b.yaml}\ntarget: {cohort: c.yaml}\n"
    assert f"{kind} needs the source of stage pretrain" in refusal(pool_alone + adapt)
    parse_settings(pool_alone + adapt.replace(kind, "masked_edges"), StudySettings)


@pytest.mark.parametrize("role", ["source", "target"])
def test_outcomes_are_named_once_and_not_none_of_them(role: str) -> None:
    for names, reason in (("[]", "at least one outcome, or null for all"), ("[a, b, a]", "a occurs twice")):
        assert reason in refusal(COHORTS, f"{role}.tasks={names}")
    assert parse_settings(COHORTS, StudySettings, overrides=[f"{role}.tasks=[b, a]"]).uses[role].tasks == ("b", "a")


@pytest.mark.parametrize("setting", ["controls: [scratch, scratch]", "baselines: [ridge, cpm, ridge]"])
def test_models_are_named_once(setting: str) -> None:
    assert "occurs twice; name each once" in refusal(COHORTS + setting)


def test_a_repeated_key_is_refused_with_its_line() -> None:
    assert "line 6: key splits.repeats occurs twice" in refusal(COHORTS + "splits:\n  repeats: 2\n  repeats: 3\n")


def test_everything_wrong_is_listed_at_once() -> None:
    said = refusal(COHORTS + "splits: {repeats: 0, outer: 1}\nn_jobs: none\nthreshold: 2\n")
    for path in ("splits.repeats", "splits.outer", "n_jobs", "threshold"):
        assert path in said


def test_overrides_replace_and_add_single_values() -> None:
    text = COHORTS + "splits: {repeats: 2, outer: 3}\ncontrols: [scratch, no_adapt]\nmodel:\n"
    settings = parse_settings(
        text,
        StudySettings,
        overrides=["splits.repeats=7", "stages.adapt=null", "model.fused_width=9", "controls.1=no_pretrain"],
    )
    assert (settings.splits.repeats, settings.splits.outer, settings.model.fused_width) == (7, 3, 9)
    assert settings.stages.adapt is None
    assert settings.controls == ("scratch", "no_pretrain")


@pytest.mark.parametrize(
    "override",
    ["splits.repeats", "=3", "splits..outer=3", "n_jobs=[1", "controls.7=scratch", "controls.x=scratch", "seed.x=1",
     "splitz.outer=3", "n_jobs=many"],
)  # fmt: skip
def test_an_override_that_makes_no_sense_is_wrong_usage(override: str) -> None:
    refusal(COHORTS + "controls: [scratch]\nseed: 1\n", override)


SETTINGS = [
    StudySettings(source=CohortUse(cohort="a"), pool=CohortUse(cohort="b"), target=CohortUse(cohort="c")),
    StudySettings(target=CohortUse(cohort="c"), stages=Stages(pretrain=None, adapt=None)),
    StudySettings(
        title="Größe: 1 # keine Bemerkung",
        source=CohortUse(cohort="a", tasks=("age",)),
        pool=CohortUse(cohort="b"),
        target=CohortUse(cohort="c"),
        stages=Stages(
            adapt=Adapt(
                objective=DenoisingAutoencoder(noise=1e-7), training=Training(clip_norm=None, freeze=("heads",))
            )
        ),
        model=ModelSettings(encoder=FlatEncoder(widths=(5,), norm="batch")),
        splits=SplitSettings(scheme="few_labels", n_labelled=33, stratum="site"),
        confounds=Confounds(columns=("age", "log(mean_fd)")),
        controls=(),
        permutations=3,
    ),
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_settings_survive_being_written_and_read(settings: StudySettings) -> None:
    assert parse_settings(dump_settings(settings), StudySettings) == settings


@pytest.mark.parametrize(("name", "kind"), [("study.yaml", StudySettings), ("cohort.yaml", CohortSettings)])
def test_the_examples_are_settings(name: str, kind: type) -> None:
    settings = load_settings(EXAMPLES / name, kind)
    assert parse_settings(dump_settings(settings), kind) == settings


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        COHORTS + "title: !!python/object/apply:os.system ['touch owned']\n",
        COHORTS + "title: !!python/name:os.system\n",
        COHORTS + "model: !!python/object:os.path.X {}\n",
        COHORTS + "splits: !!set {repeats}\n",
        BOMB,
        "a: &a [*a]\n",
        "a: &a {b: *a}\n",
        "[" * 5000,
        "title: \x00\n",
        "title: [unclosed\n",
        "title: a\n---\ntitle: b\n",
        "- a\n- b\n",
        "just text",
        COHORTS + "? [a, b]\n: 2\n",
        COHORTS + "target:\n  <<: {cohort: c.yaml}\n",
        COHORTS + "n_jobs: 1" + "0" * 5000 + "\n",
        COHORTS + "threshold: .nan\n",
        COHORTS + "threshold: .inf\n",
    ],
)
def test_hostile_and_broken_yaml_is_refused(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refusal(text)
    assert list(tmp_path.iterdir()) == []


def test_lines_are_not_sought_in_a_file_that_expands_to_too_many_values(tmp_path: Path) -> None:
    (tmp_path / "cohort.yaml").write_text(BOMB)
    error = UsageError("column 'x' is not in the table")
    assert with_lines(error, tmp_path / "cohort.yaml") is error


def test_what_is_no_settings_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError):
        load_settings(tmp_path / "absent.yaml", StudySettings)
    with pytest.raises(MissingInputError):
        load_settings(tmp_path, StudySettings)
    (tmp_path / "latin.yaml").write_bytes(b"title: Gr\xf6\xdfe\n")
    (tmp_path / "large.yaml").write_bytes(b"# " + b"x" * 1_000_001)
    for name in ("latin.yaml", "large.yaml"):
        with pytest.raises(UsageError):
            load_settings(tmp_path / name, StudySettings)


def test_stages_and_splits_that_cannot_be_are_refused() -> None:
    assert "needs a source" in refusal("target: {cohort: c}\nstages: {pretrain: {}}\n")
    assert "needs a pool" in refusal("target: {cohort: c}\nstages: {adapt: {}}\n")
    assert "n_labelled" in refusal(COHORTS + "splits: {n_labelled: 20}\n")
    assert "at least 2" in refusal(COHORTS + "splits: {inner: 1}\n")
    assert "no part is called" in refusal(COHORTS + "stages: {finetune: {training: {freeze: [encoders]}}}\n")
    assert "target: this key is required" in refusal("title: x\n")


@pytest.mark.parametrize(
    ("override", "key"), [("splits.repeat=3", "splits.repeat"), ("n_jobs=many", "n_jobs"), ("splits.outer=1", "splits")]
)
def test_a_mistake_of_an_override_is_not_blamed_on_the_file(override: str, key: str) -> None:
    said = refusal(COHORTS + "splits: {repeats: 2}\n", override)
    assert f"--set {override}" in said
    assert key in said
    assert "line " not in said
    assert "study.yaml" not in said


def test_a_bracket_in_a_column_name_is_told_to_be_quoted() -> None:
    for text in ("age: {column: Age [weeks], unit: weeks}", "age: {column: [Age, unit: weeks}", "site: @site"):
        with pytest.raises(UsageError) as caught:
            parse_settings(f"participants: p.tsv\n{text}\n", CohortSettings, file="cohort.yaml")
        assert "must be quoted: column: 'Age [weeks]'" in str(caught.value)
    text = "participants: p.tsv\nage: {column: 'Age [weeks]', unit: weeks, reference: birth}\n"
    assert parse_settings(text, CohortSettings).age is not None


@pytest.mark.parametrize("word", ["no", "Off", "012", "12:30", "1_000", "0x1F", "2020-01-01", "1e3", "1.5e3"])
def test_words_of_older_yaml_are_read_as_they_are_written(word: str) -> None:
    text = "name: %s\nparticipants: p.tsv\nmissing: [%s]\n"
    text += "outcomes: [{name: a, column: a, kind: binary, levels: [%s, b]}]\n"
    settings = parse_settings(text.replace("%s", word), CohortSettings)
    assert (settings.name, settings.missing, settings.outcomes[0].levels) == (word, (word,), (word, "b"))
    assert parse_settings(dump_settings(settings), CohortSettings) == settings


@pytest.mark.parametrize(("number", "code"), [("99999.99", "99999.99"), ("-9", "-9"), ("-9.0", "-9")])
def test_numbers_among_codes_keep_their_digits(number: str, code: str) -> None:
    assert parse_settings(f"participants: p.tsv\nmissing: [{number}]\n", CohortSettings).missing == (code,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: 1.10\n", r"got 1\.10. Quote it: name: '1\.10'"),
        ("missing: [true]\n", "quote it, as 'true'"),
        ("age:\n\tcolumn: a\n", "line 3.*Indent and separate with blanks, not tabs"),
        ("age:\n\u00a0\u00a0column: a\n", "line 3.*non-breaking blanks .*around the key column"),
        ("covariates: [steroids]\n", r"covariates\[0\]: a block .*Did you mean {column: steroids}"),
        ("name:\u00a0t\n", r"non-breaking blanks \(U\+00A0\): replace them"),
        ('site: "C:\\data"\n', "in single quotes"),
        ("age: {column: a, unit: weeks, reference: birth, range: [30]}\n", "age.range.*this key is required"),
        ("outcomes: [{name: a, column: a, kind: binary, cutoff: 85,5}]\n", r"outcomes\[0\].cutoff.*decimal point"),
        ("age:\n  <<: {unit: weeks}\n  column: a\n", "line 3: age: << is not supported. Write the keys"),
    ],
)
def test_a_slip_of_yaml_is_named_with_what_to_write(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=f"(?s){said}"):
        parse_settings("participants: p.tsv\n" + text, CohortSettings, file="cohort.yaml")


@pytest.mark.parametrize(
    ("dimension", "said"),
    [
        (f"{RATE}: [0.1, 0.2]", r"write choices: \[0\.1, 0\.2\] or low and high"),
        (f"{RATE}: {{choices: [0.1]}}", "a single one is set in the study itself"),
        (f"{RATE}: {{low: 0, high: 1, log: true}}", "a logarithmic range starts above 0"),
        (f"{RATE}: {{low: a, high: 1}}", "low: a number is needed; got 'a'"),
        (f"{RATE.upper()}: {{low: 0.1, high: 1}}", f"Did you mean {RATE}"),
        (f"{RATE.replace('.', '/')}: {{low: 0.1, high: 1}}", f"Did you mean {RATE}"),
        ("stages.finetune.training.lr: {low: 0.1, high: 1}", f"Did you mean {RATE}"),
        ("stages.finetune.learning_rate: {low: 0.1, high: 1}", f"Did you mean {RATE}"),
        ("learning_rate: {low: 0.1, high: 1}", r"Did you mean stages\.\w+\.training\.learning_rate"),
        ("stages.finetune: {training: {learning_rate: {low: 0.1, high: 1}}}", "the complete key with points"),
        ("model.encoder.kind: {choices: [flat, gin]}", r"model\.encoder: {choices: \[{kind: \.\.\.}"),
    ],
)
def test_a_dimension_of_a_search_that_is_none_is_refused_with_what_to_write(dimension: str, said: str) -> None:
    assert re.search(said, refusal(f"{COHORTS}splits: {{inner: 3}}\ntune:\n  space:\n    {dimension}\n"))


def test_a_sign_that_starts_a_text_in_yaml_is_the_sign() -> None:
    text = "participants: p.tsv\noutcomes:\n  - {name: a, column: a, kind: binary, cutoff: 85, operator: '>'}\n"
    block = "participants: p.tsv\noutcomes:\n  - operator: >\n"
    block += "    name: a\n    column: a\n    kind: binary\n    cutoff: 85\n"
    assert parse_settings(block, CohortSettings) == parse_settings(text, CohortSettings)


def test_an_item_of_an_absent_list_is_refused_with_the_option_and_the_list_to_write() -> None:
    with pytest.raises(
        UsageError, match=r"--set controls\.0=scratch: controls: a list is needed.*controls: \[scratch\]"
    ):
        parse_settings(COHORTS, StudySettings, overrides=["controls.0=scratch"])


@pytest.mark.parametrize("line", ["features: {tangent: true}", "include: other.yaml"])
def test_a_key_that_resembles_no_other_gets_no_suggestion(line: str) -> None:
    assert "Did you mean" not in refusal(COHORTS + line + "\n")


@pytest.mark.parametrize("odd", ["\\ud800", "\\u202e", "\\x07", "\\u2066"])
def test_texts_that_cannot_be_shown_are_refused(odd: str) -> None:
    said = refusal(COHORTS + f'title: "a{odd}b"\n')
    assert "line 4: title" in said
    assert "cannot be displayed" in said
    said.encode()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("refits: 50", "refits: a block of keys and values is needed; expected keys linear, network; got 50"),
        ("confounds: [age]", r"confounds: a block .*keys columns; got \['age'\]"),
        ("core: {unpenalised: age}", r"core.unpenalised: a list is needed; got 'age'. Write unpenalised: \[age\]\."),
        ("core: {clip: false}", "clip: a number or null is needed, not false"),
        ("n_seeds: true", "n_seeds: a number is needed, not true"),
        ("stages: {finetune: {training: {learning_rate: yes}}}", "learning_rate: a number is needed; got 'yes'"),
        ("baselines: [Ridge]", r"no baseline is called 'Ridge'.*Did you mean ridge\?"),
        ("controls: [scratc]", r"Did you mean scratch\?"),
        ("model: {encoder: {kind: graf}}", r"no encoder is called graf; expected one of graph, .*Did you mean graph\?"),
        ("model: {encoder: graph}", r"set `kind`; .*got 'graph'. Did you mean encoder: \{kind: graph\}\?"),
        ("splits: {scheme: k-fold}", r"unknown value; expected one of kfold, site_out, few_labels; .*mean kfold\?"),
        ("device: gpu", "expected one of cpu, cuda, auto; got 'gpu'$"),
        ("model: {encoder: {kind: GCN}}", r"Did you mean gcn\?"),
        ("n_seeds: true", "line 4: n_seeds: a number is needed"),
        ("stages: {finetune: {training: {freeze: [encoder]}}}", "line 4: stages.finetune.training: no part is called"),
        ("splits: null", "a block of keys and values is needed; .*got null"),
        ("controls: none", r"Write controls: \[\]\."),
        ("controls: false", r"got false. Write controls: \[\]\."),
        ("baselines: all", "Name each one, or leave baselines out for the default"),
        ("controls: [ridge]", "It is a baseline: name it in baselines"),
        ("permutations: 1e3", r"permutations: a whole number is needed; got '1e3'. Write permutations: 1000\."),
        ("permutations: 10.5", "permutations: a whole number is needed; got 10.5$"),
        ("permutations: ten", "permutations: a whole number is needed; got 'ten'$"),
        (
            "stages: {finetune: {training: {learning_rate: '0,001'}}}",
            r"a number is needed; .*Write learning_rate: 0\.001\.",
        ),
        ("n_jobs: -1", "n_jobs: must be at least 1; got -1"),
        ("outer: 5", r"outer: unknown key; .*Did you mean splits\.outer\?"),
        ("stages: {finetune: {training: {lr: 0.1}}}", r"Did you mean learning_rate\?"),
        ("stages: {finetune: {training: {epochs: 9}}}", r"Did you mean steps\?"),
    ],
)
def test_a_value_of_the_wrong_form_is_refused_in_words_of_yaml(line: str, said: str) -> None:
    assert re.search(said, refusal(COHORTS + line + "\n"))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("harmonise: {protect: [age], unseen: none}", "no effect without method: combat or gamma: protect, unseen"),
        ("harmonise: {method: combat, reference: A}", "reference has no effect without unseen: reference"),
        ("splits: {scheme: site_out, outer: 10, repeats: 20}", "whose folds are the sites: outer, repeats"),
        ("splits: {scheme: site_out, stratum: motor}", "whose folds are the sites: stratum"),
        ("recalibration: {method: temperature}", "recalibration has no effect without inner folds"),
        ("baseline_settings: {two_stage: {folds: 3}}", "baseline_settings.two_stage has no effect: add two_stage"),
    ],
)
def test_settings_without_effect_on_folds_sites_and_baselines_are_refused(line: str, said: str) -> None:
    assert said in refusal(COHORTS + line + "\n")


def test_held_out_sites_are_tested_once_unless_repeats_divide_inner_folds() -> None:
    assert SplitSettings(scheme="site_out").repeats == 1
    assert SplitSettings(scheme="site_out", inner=2, repeats=3).repeats == 3
    found = parse_settings(COHORTS + "splits: {scheme: site_out}\n", StudySettings)
    assert found.splits.repeats == 1
    assert parse_settings(dump_settings(found), StudySettings) == found


def test_outcomes_of_a_pool_are_refused() -> None:
    text = "target: {cohort: a}\npool: {cohort: b, tasks: [motor]}\n"
    assert "pool.tasks has no effect" in refusal(text)


@pytest.mark.parametrize("value", ["-1", "many", "[1]", "{a: 1}", "1.5"])
def test_a_value_of_none_of_several_types_is_one_problem_at_its_key(value: str) -> None:
    text = f"target: {{cohort: t}}\nstages:\n  finetune:\n    training:\n      steps: {value}\n"
    with pytest.raises(UsageError) as caught:
        parse_settings(text, StudySettings, file="study.yaml")
    (problem,) = caught.value.problems
    assert problem.line == 5
    assert problem.what.startswith("stages.finetune.training.steps: ")
    assert "Input should" not in problem.what
    assert problem.what.endswith(", or one of auto")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("name: 3", "name: a text is needed; got 3. Quote it: name: '3'."),
        ("select: [a]", "select: a text is needed"),
        ("largest_family: many", "largest_family: a whole number is needed"),
        ("largest_family: 0", "largest_family: must be at least 1"),
        ("simulated: maybe", "simulated: true or false is needed"),
        ("id: [participant_id]", "id: a text is needed"),
        ("exclude: age < 3", "exclude: a list of blocks with the keys reason, unknown, when is needed; got 'age < 3'"),
        ("missing: -9", "missing: a list is needed; got -9. Write missing: [-9]."),
        ("age: {column: a, unit: years, range: 40}", "age.range: a list is needed; got 40"),
        ("exclude: [{when: age < 3, reason: ''}]", "exclude[0].reason: must not be empty"),
    ],
)
def test_wrong_values_are_one_problem_in_words_of_yaml(given: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_settings(f"participants: t.tsv\n{given}\n", CohortSettings, file="cohort.yaml")
    (problem,) = caught.value.problems
    assert said in str(problem)
    assert str(problem).endswith(said) or not said.endswith((".", "'"))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("splits.repeats", "abc", "a whole number is needed; got 'abc'"),
        ("splits.repeats", 0, "must be at least 1; got 0"),
        ("stages.finetune.training.learning_rate", float("nan"), "a finite number is needed; got nan"),
        ("model.fusion", 3, "a block of keys and values is needed; expected keys kind; got 3"),
    ],
)
def test_values_given_in_python_are_refused_in_the_words_of_files(key: str, value: object, said: str) -> None:
    study = parse_settings("target: {cohort: t}", StudySettings)
    with pytest.raises(UsageError, match=f"^{key}: {said}"):
        study.with_settings({key: value})


def test_results_of_another_version_are_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"run": 3, "splits": "a"}')
    with pytest.raises(DataError) as caught:
        read_record(tmp_path)
    assert "Input should" not in str(caught.value)
    assert "Field required" not in str(caught.value)
