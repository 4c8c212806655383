"""An id, a path or a date is found wherever a bundle could contain one, and nothing is written in that case."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from connectome_tl.bundle.evidence import released_scores
from connectome_tl.bundle.folder import FILES, METADATA
from connectome_tl.bundle.scan import Secrets, scan
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.errors import DataError
from connectome_tl.settings.cohort import Covariate
from connectome_tl.settings.records.bundles import count_text
from connectome_tl.settings.records.scores import Score
from connectome_tl.training.schemes import StudyCohorts
from connectome_tl.workflows.release.bundle import BundleOptions, bundle_run
from tests.bundle.bundle_study import run_of, study_cohorts

PLANTS = {
    "the id of a subject": "seen in target007, twice",
    "an id of a subject or scan": "sub-0412_ses-2",
    "a path": "read from /data/neonates/in/here.nii.gz",
    "a date": "scanned 2019-03-08",
    "the name of a site": "made at Northtown",
    "a fingerprint of data": "ab" * 32,
}


@pytest.fixture(scope="module")
def secrets(home: Path) -> Secrets:
    cohorts = [read_cohort(home / name / "cohort.yaml") for name in ("target", "older", "pool")]
    cohorts.append(replace(cohorts[0], site=cohorts[0].site.astype(object)))
    cohorts[-1].site[0] = "Northtown"
    facts = json.loads((home / "bundle" / METADATA).read_text())["connectome_tl"]
    return Secrets.of(cohorts, site_names=False, public=(facts["inputs"]["atlas_sha256"],))


def files_of(bundle: Path) -> dict[str, bytes]:
    return {name: (bundle / name).read_bytes() for name in FILES}


def test_a_clean_bundle_gives_nothing_away(home: Path, secrets: Secrets) -> None:
    for bundle in ("bundle", "refit"):
        files = files_of(home / bundle)
        assert scan(files, secrets) == []
        for name in ("target", "older", "pool"):  # and a search of the bytes finds no id
            cohort = read_cohort(home / name / "cohort.yaml")
            for subject in cohort.ids:
                assert not any(subject.encode() in data for data in files.values())
        assert not any(str(home).encode() in data for data in files.values())


@pytest.mark.parametrize("what", PLANTS)
def test_a_plant_is_found_in_every_value_key_line_and_tensor_name(home: Path, secrets: Secrets, what: str) -> None:
    plant = PLANTS[what]
    for name, data in files_of(home / "bundle").items():
        if name.endswith(".json"):
            for change in (_in_values, _in_keys):
                content, planted = change(json.loads(data), plant)
                assert planted > 5, (name, change.__name__, content)
                found = scan({name: json.dumps(content).encode()}, secrets)
                hits = [one for one in found if what in str(one)]
                assert len(hits) >= planted, (name, change.__name__)
        elif name.endswith(".safetensors"):
            assert _tensor_files(data, plant)
            for altered in _tensor_files(data, plant):
                assert any(what in str(one) for one in scan({name: altered}, secrets)), name
        else:
            lines = data.decode().splitlines()
            for at in range(len(lines) + 1):
                text = "\n".join([*lines[:at], f"- {plant}", *lines[at:]])
                found = scan({name: text.encode()}, secrets)
                assert [one for one in found if what in str(one) and f"line {at + 1} " in str(one)]
        assert any(what in str(one) for one in scan({f"{plant}/{name}": data}, secrets))


def _in_values(content: Any, plant: str) -> tuple[Any, int]:
    """The content with the planted text in every string, and their number."""
    if isinstance(content, dict):
        done = {key: _in_values(value, plant) for key, value in content.items()}
        return {key: value for key, (value, _) in done.items()}, sum(n for _, n in done.values())
    if isinstance(content, list):
        each = [_in_values(value, plant) for value in content]
        return [value for value, _ in each], sum(n for _, n in each)
    if isinstance(content, bool) or content is None:
        return plant, 1
    return (plant, 1) if isinstance(content, (str, int, float)) else (content, 0)


def _in_keys(content: Any, plant: str) -> tuple[Any, int]:
    if isinstance(content, dict):
        done = {f"{i} {plant}": _in_keys(value, plant) for i, value in enumerate(content.values())}
        return {key: value for key, (value, _) in done.items()}, sum(n for _, n in done.values()) + len(done)
    if isinstance(content, list):
        each = [_in_keys(value, plant) for value in content]
        return [value for value, _ in each], sum(n for _, n in each)
    return content, 0


def _tensor_files(data: bytes, plant: str) -> list[bytes]:
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    name = next(iter(header))
    headers = [
        {**header, "__metadata__": {"note": plant}},
        {**header, "__metadata__": {plant: "note"}},
        {(plant if key == name else key): value for key, value in header.items()},
    ]
    texts = [json.dumps(one).encode() for one in headers]
    return [struct.pack("<Q", len(text)) + text + data[8 + size :] for text in texts]


def test_ids_that_are_numbers_are_found_in_numbers_and_in_texts(home: Path) -> None:
    cohort = read_cohort(home / "target" / "cohort.yaml")
    numbered = cohort.drawn(np.arange(cohort.n_subjects), [str(50003 + i) for i in range(cohort.n_subjects)])
    secrets = Secrets.of([numbered], site_names=True)
    for content in ({"a": 50004}, {"a": [1, 50004.0]}, {"a": "row 50004"}, {"50004": 1}):
        assert len(scan({"x.json": json.dumps(content).encode()}, secrets)) == 1
    assert len(scan({"x.safetensors": save({"a": np.array([0.5, 50004.0, 7.0])})}, secrets)) == 1
    assert len(scan({"x.safetensors": save({"a": np.array([50004])})}, secrets)) == 1
    assert len(scan({"x.safetensors": save({"a": np.array([20190308.0])})}, secrets)) == 1  # a date
    assert scan({"x.safetensors": save({"a": np.array([0.5, 50004.5, 150004, 7.0])})}, secrets) == []
    for content in ({"a": 4}, {"a": 50004.5}, {"a": 150004}, {"a": "x500041"}):
        assert scan({"x.json": json.dumps(content).encode()}, secrets) == []
    short = cohort.drawn(np.arange(2), ["7", "8"])
    secrets = Secrets.of([short], site_names=True, public=("8",))
    assert len(scan({"x.json": b'{"a": "7", "b": "7 sites", "c": 7, "d": "8"}'}, secrets)) == 1


def test_a_type_of_numbers_is_not_a_family(home: Path) -> None:
    """Families f1, f2, ... of a cohort with 32 or more."""
    cohort = read_cohort(home / "target" / "cohort.yaml")
    family = np.array([f"f{i}" for i in range(30, 30 + cohort.n_subjects)], dtype=object)
    secrets = Secrets.of([replace(cohort, family=family)], site_names=True)
    assert scan({"x.safetensors": save({"weights": np.ones(2, np.float32)})}, secrets) == []
    assert scan({"x.safetensors": save({"weights": np.ones(2, np.float32)}, {"dtype": "f32"})}, secrets)
    assert scan({"x.json": b'{"row": "f32"}'}, secrets)


@pytest.mark.parametrize(
    "text",
    ["12.03.2021", "2021/3/12", "20210312", "March 12, 2021", "12 Mar 2021", "12th March 2021", "2021_03_12",
     "March 2021", "Sept. 2020", "2021-03",
     "10:31:22", "C:\\data\\x", "\\\\server\\share", "~/x", "../x/y", "file:///x", "/home/me/x", "a/b/c.nii.gz",
     "ses-01", "CC00063AN06",
     # dates in other orders, languages, scripts, and glued to words and times
     "04.03.2019", "4 March 2019", "2019-03-04T10:31:22Z", "20190304T103122", "20190304103122", "scan20190304",
     "20190304_T1w", "04032019", "03/04/19", "04.03.19", "3/14/2019", "2019-W10-1", "2019-063", "4. M\u00e4rz 2019",
     "4 de marzo de 2019", "4th of March", "March 4", "04Mar2019", "03/2019", "2019/03", "2019\u5e743\u67084\u65e5",
     "\u0663/\u0664/\u0662\u0660\u0661\u0669",
     "\uff12\uff10\uff11\uff19-\uff10\uff13-\uff10\uff14", "2019\u201303\u201304", "2019%2D03%2D04", "1551657600",
     "2019 03 04", "04 03 2019", "4. 3. 2019", "3 / 4 / 2019", "2019 - 03 - 04", "2019:03:04", "3/4/19", "Q2 2019",
     "&#50;019-03-04",
     # paths of other systems, and names of files
     "data/lab/jane", "home/jane/study", "mnt\\data\\study1", "file:data/x", "\u2215data\u2215jane\u2215x",
     "C:/Users/jane", "//server/share/x", "smb://server/x", "s3://bucket/x", "host:/home/x", "`/data/x`", "|/data/x|",
     "~jane/data", "$HOME/data", "%USERPROFILE%\\x", "..\\x", "\\\\?\\C:\\x", "scan012.nii.gz", "IM0001.dcm",
     # ids of folders, of DICOM objects, and fingerprints
     "sub0412", "SUB-0412", "sub\u20110412", "Subject_012", "patient12", "1.2.840.113619.2.55.3.604", "ab" * 16,
     "ab" * 20, "123e4567-e89b-12d3-a456-426614174000"],
)  # fmt: skip
def test_forms_of_dates_paths_and_ids(text: str) -> None:
    assert list(Secrets({}, {}).found_in(f"it says {text}"))


@pytest.mark.parametrize(
    "text",
    ["AUC 0.84 [0.55, 0.95]", "doi:10.1016/j.neuroimage.2012.12.066", "mm²/s", "and/or", "version 2026.1", "1.15.3",
     "configs/metadata.json", "log1p", "24 to 32 weeks", "in 20210 of them", "OLF.L", "risk = sigmoid(a + b x)",
     "subject to change", "12 to 13 to 2014", "1,000/2,000", "https://example.org/a/b", "2012-2015", "age 2020-days",
     "24 may be absent", "2 mars rovers", "n = 12/200", "doi:10.1109/TSMC.1979.4310076", "5 %/year", "2.13.0+cpu",
     "0.1234567890", "10-12-14 weeks", "ratio 3:4", "10.1038/s41586-019-1234-5", "1.2.3.4", "N = 2019", "~5/10",
     "Yeo2011.7Networks", "sigma(0.5)/2", "12 subjects", "subscale2", "Bayley-III", "March test",
     "data/model", "of 20 to 10 19", "https://example.org/data/a/b", "1 2 2000", "0.019 04 03"],
)  # fmt: skip
def test_ordinary_texts_pass(text: str) -> None:
    assert list(Secrets({}, {}).found_in(text)) == []


@pytest.mark.parametrize(
    "text", ["torch 2.14.0.dev20261101+cu128", "0.4.0.dev0+git20251101", "Sub-group analysis", "Sub-thalamic_L"]
)
def test_versions_and_words_with_sub_are_no_secrets(text: str) -> None:
    assert list(Secrets({}, {}).found_in(text)) == []


def test_numbers_that_follow_from_a_file_are_no_secrets() -> None:
    tensors = save({"a": np.zeros(20_190_304 // 4, np.float32), "b": np.array([2.0190304e7, 1.2e9], np.float32)})
    assert scan({"x.safetensors": tensors}, Secrets({}, {})) == []
    assert scan({"x.safetensors": save({"a": np.array([20190304])})}, Secrets({}, {}))


def test_an_id_is_found_in_whatever_form_its_letters_are_written(home: Path) -> None:
    cohort = read_cohort(home / "target" / "cohort.yaml")
    secrets = Secrets.of([cohort.drawn(np.arange(2), ["M\u00fcller7", "KIND12"])], site_names=True)
    for text in (
        "MUELLER7",
        "seen by muller7",
        "seen in Mu\u0308ller7",
        "seen in M\u00dcLLER7",
        "seen in \uff2b\uff29\uff2e\uff24\uff11\uff12",
    ):
        assert list(secrets.found_in(text)), text


def test_an_id_is_found_with_other_separators_within_a_word_and_without_zeros(home: Path) -> None:
    cohort = read_cohort(home / "target" / "cohort.yaml")
    secrets = Secrets.of([cohort.drawn(np.arange(3), ["KIND-0412", "sub-ABC77x", "0050123"])], site_names=True)
    for text in ("kind0412", "KIND412", "0.050.123", "kind_0412", "KIND 04 12", "T1wKIND0412run1", "KI\u200bND-0412",
                 "KIND%2D0412",
                 "of ABC77x", "abc_77_X", "50,123 of them", "50123"):  # fmt: skip
        assert list(secrets.found_in(text)), text
    assert len(scan({"x.json": b'{"a": 50123}'}, secrets)) == 1
    assert len(scan({"x.safetensors": save({"a": np.array([50123.0, 20190304.0])})}, secrets)) == 2
    for text in ("kind0413", "kind04123", "KIND 0", "ABC7 7", "150123", "50,124", "kind of 412"):
        assert not list(secrets.found_in(text)), text


@pytest.mark.parametrize("text", ["at St. Mary", "st mary 3", "StMary", "st.mary", "ST-MARY", "stmary"])
def test_a_name_of_several_words_is_found_in_every_spelling(text: str) -> None:
    secrets = Secrets(words={"st. mary": "the name of a site"}, whole={})
    assert list(secrets.found_in(text))
    assert not list(secrets.found_in("most maryland studies"))


def test_a_short_id_of_four_digits_and_letters_is_found_without_its_separator() -> None:
    secrets = Secrets(words={"p-1017": "the id of a subject"}, whole={})
    assert all(list(secrets.found_in(text)) for text in ("P1017", "p_1017", "of P 1017"))
    assert not any(list(secrets.found_in(text)) for text in ("P10171", "P 017", "1017 of them"))


def test_a_pattern_is_found_behind_a_public_one(home: Path) -> None:
    """The hash of the atlas is public; another one after it, in the same text, is not."""
    secrets = Secrets({}, {}, frozenset({"ab" * 32}))
    assert list(secrets.found_in("ab" * 32)) == []
    assert [what for what, _ in secrets.found_in(f"{'ab' * 32} {'cd' * 32}")] == ["a fingerprint of data"]


def test_no_count_under_ten_follows_from_what_is_said() -> None:
    """Neither the count, nor the difference to a total, nor a proportion of a small class."""
    assert [count_text(n) for n in (0, 9, 10, 31)] == ["< 10", "< 10", "10", "31"]
    assert [count_text(n, 40) for n in (9, 20, 30, 31, 39, 40)] == ["< 10", "20", "30", "> 30", "> 30", "40"]
    names = ("auc", "sensitivity", "specificity", "balanced_accuracy", "brier")
    scores = [Score(task="t", model="full", metric=name, value=0.857, low=0.5, high=0.9, n=40) for name in names]
    for n_positive, left in (
        (20, names), (7, ("auc", "specificity", "brier")), (33, ("auc", "sensitivity", "brier")), (None, names)
    ):  # fmt: skip
        found = released_scores(scores, 40, n_positive)
        assert tuple(score.metric for score in found) == left
        assert {score.value for score in found} == {0.86}


@pytest.mark.slow
def test_a_study_full_of_secrets_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    """Names from cohort.yaml, study.yaml and the tables reach a bundle in many places: all are listed together."""
    cohorts = study_cohorts()

    def tainted(cohort: Any, role: str) -> Any:
        table = cohort.covariates
        specs = cohort.covariate_specs
        if role == "target":
            table = table.rename(columns={"ivh_grade": "ivh 2020-01-31"})
            table["sex"] = ["target003" if value == "male" else value for value in table["sex"]]
            specs = tuple(
                Covariate.model_validate(spec.model_dump() | {"column": table.columns[i]})
                for i, spec in enumerate(specs)
            )
        regions = ("sub-77", *cohort.regions[1:])
        return replace(cohort, covariates=table, covariate_specs=specs, regions=regions, atlas="sub-88",
                       measures=("fbc of /mnt/scans/today",))  # fmt: skip

    dirty = StudyCohorts({role: tainted(cohort, role) for role, cohort in cohorts.roles.items()})
    run = run_of(tmp_path, dirty, title="Study of 3 May 2021")
    with pytest.raises(DataError, match="nothing was written") as refused:
        bundle_run(run, tmp_path / "out", BundleOptions(model="core", authors="ses-3"))
    for text in ("2020-01-31", "target003", "sub-77", "sub-88", "/mnt/scans", "3 May 2021", "ses-3"):
        assert any(text in str(one) for one in _all_problems(run, tmp_path)), text
    assert not (tmp_path / "out").exists()
    assert len(refused.value.problems) == 12


def _all_problems(run: Path, folder: Path) -> list[Any]:
    from connectome_tl.workflows.release import bundle as workflow

    found: list[Any] = []
    keep: Callable[..., None] = workflow.refuse_secrets

    def collect(files: dict[str, bytes], secrets: Secrets, *said: str) -> None:
        found.extend(scan(files, secrets))
        keep(files, secrets, *said)

    workflow.refuse_secrets = collect  # type: ignore[assignment]
    try:
        with pytest.raises(DataError):
            workflow.bundle_run(run, folder / "out", BundleOptions(model="core", authors="ses-3"))
    finally:
        workflow.refuse_secrets = keep
    return found
