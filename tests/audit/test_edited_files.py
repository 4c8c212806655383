"""Edited files of a run besides the results: each edit is reported, and a correct folder passes."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from connectome_tl.audit.compared import compared
from connectome_tl.audit.results import page_finding
from connectome_tl.audit.rounding import same_state
from connectome_tl.audit.stored import stored_finding, unlike
from connectome_tl.errors import DataError
from connectome_tl.provenance import content_hash, file_hash, write_json
from connectome_tl.training.checkpoint import FitResult, FitStore, tensor_bytes
from connectome_tl.training.core_stage import PREDICTABLE
from connectome_tl.workflows.audit.audit import audit_run
from connectome_tl.workflows.audit.pages import Drawn, drawings, paper_findings
from connectome_tl.workflows.audit.sidecars import strange_findings
from connectome_tl.workflows.audit.stored_fits import SpotCheckedFits
from connectome_tl.workflows.study.ledger import LEDGER, doubts, reveal
from connectome_tl.workflows.study.report import draw_report
from connectome_tl.workflows.study.results import read_record

pytestmark = pytest.mark.usefixtures("audits_draw_once")
FIT = FitResult(
    key="f",
    stage="core",
    rows=frozenset("abcd"),
    tasks=("cognitive",),
    predictions={name: np.array([0.1 * k]) for k, name in enumerate("efgh")},
    held_out={name: np.array([0.2 * k]) for k, name in enumerate("abcd")},
    facts={"weight": 0.5},
)


def resealed(path, change):
    """A stored record changed by `change`, with a new hash."""
    record = json.loads(path.read_text())
    record.pop("content")
    change(record)
    write_json(path, {**record, "content": content_hash(record)})


def with_other_weights(record_path, factor):
    """A stored fit whose weights are multiplied by `factor`, its hashes made anew."""
    file = record_path.with_suffix(".safetensors")
    arrays = load_file(file)
    trained = {name: value * np.float32(factor) for name, value in arrays.items() if name.startswith("state/")}
    file.write_bytes(tensor_bytes({**arrays, **trained}))
    resealed(record_path, lambda record: record.update(tensors=file_hash(file)))


def edited(path, old, new):
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")


def test_stored_fits_a_provenance_entry_and_a_sidecar_are_named(run_copy):
    """On the machine of the run, fits that predict nothing and weights of mixtures are compared to the last bit."""
    run = run_copy / "run"
    records = {file: json.loads(file.read_text()) for file in sorted((run / "models").glob("*.json"))}
    # Networks that the run did not use may differ by rounding.
    used = {f: r for f, r in records.items() if r["facts"].get(PREDICTABLE, 1.0)}
    early = next(f for f, r in used.items() if r["stage"] in ("pretrain", "adapt") and r["tensors"])
    with_other_weights(early, 1 + 1e-5)
    mixture = next(f for f, r in records.items() if r["stage"] == "mixture" and r["facts"])
    name = next(iter(records[mixture]["facts"]))
    resealed(mixture, lambda record: record["facts"].update({name: record["facts"][name] + 1e-4}))
    kept = next(file for file, record in records.items() if record["held_out"] and file != mixture)

    def another(record):
        values = next(values for values in record["held_out"].values() if values[0] is not None)
        values[0] += 3.0

    resealed(kept, another)
    edited(run / "provenance.json", '"seed": 0', '"seed": 7')
    edited(run / "predictions.json", "observed outcome", "certain outcome")
    found = {f.check: f.what for f in audit_run(run).findings if f.status == "failed"}
    assert set(found) == {"stored fits are those fitted again", "provenance and sidecars are those of the run"}
    for text in (
        f"{kept.stem[:12]} ({records[kept]['stage']}): held_out differ by up to 3",
        f"{early.stem[:12]} ({records[early]['stage']}): fitted numbers",
        f"{mixture.stem[:12]} (mixture): facts, notes or training curve",
    ):
        assert text in found["stored fits are those fitted again"]
    for text in ("provenance.json, seed", "predictions.json, Columns"):
        assert text in found["provenance and sidecars are those of the run"]


def test_tables_and_figures_for_a_paper_are_compared_with_the_results(run_copy):
    run = run_copy / "run"
    record = read_record(run)
    assert paper_findings(run, record, iter(())) == []
    draw_report(run, figures="svg", tables=True)
    drawn = list(islice(drawings(run, record), 2))
    assert {f.status for f in paper_findings(run, record, drawn)} == {"passed"}
    tables = sorted((run / "tables").glob("*.tsv"))
    edited(tables[0], "\n", "\nmore\n")
    edited(run / "tables" / "references.bib", "year", "yaer")
    (run / "tables" / "99-mine.tsv").write_text("a\n")
    tables[1].unlink()
    figure = next(iter(sorted((run / "figures").glob("*roc.svg"))))
    edited(figure, "</svg>", "<text>AUC 0.99</text></svg>")
    by_tables, by_figures = paper_findings(run, record, drawn)
    assert f"{tables[0].name} differs in line 2" in by_tables.what
    assert "99-mine.tsv is not a table of this report" in by_tables.what
    assert by_figures.what == f"{figure.name} differs"
    assert "references.bib differs" in by_tables.what
    (run / "tables" / "99-mine.tsv").unlink()
    assert f"{tables[1].name} is not there" in paper_findings(run, record, drawn)[0].what


def test_a_pdf_of_another_version_of_the_library_is_not_accused(finished_run, tmp_path):
    record = read_record(finished_run / "run")
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "01-roc.pdf").write_bytes(b"%PDF-1.4 as it was")
    drawn = [Drawn(page="", tables={}, figures={"01-roc.pdf": b"%PDF-1.4 drawn again"})]
    assert [f.status for f in paper_findings(tmp_path, record, drawn)] == ["failed"]
    older = record.model_copy(update={"versions": {**record.versions, "matplotlib": "3.0"}})
    assert [f.status for f in paper_findings(tmp_path, older, drawn)] == ["passed"]


@pytest.mark.parametrize(
    "change",
    [
        ("</style>", ".warning{display:none}</style>"),
        ("<section>", "<section hidden>"),
        ("<title>A</title>", "<title>B</title>"),
        ("</p>", "</p><script>document.body.remove()</script>"),
        ('aria-label="a curve 0.71"', 'aria-label="a curve 0.74"'),
        ("</svg>", "<style>p{display:none}</style></svg>"),
        ("</svg>", "<script>document.body.remove()</script></svg>"),
        ("<svg", "<svg onload='document.body.remove()'"),
        ("<path", '<path opacity="0"'),
        ("</svg>", '<image href="data:image/png;base64,AAAA"/></svg>'),
        ("</svg>", "<foreignObject><b></b></foreignObject></svg>"),
        ("</p>", "</p><!--><script>document.body.remove()</script><!-- -->"),
    ],
    ids=[
        *("style", "hidden", "title", "script", "label", "svg style", "svg script", "svg handler", "svg opacity"),
        *("svg image", "svg page", "comment"),
    ],
)
def test_how_a_page_is_shown_counts_as_much_as_its_text(change):
    page = '<title>A</title><style>p{}</style><section><p aria-label="a curve 0.71">text</p></section>'
    page += '<svg><clipPath id="f-p0123456789"/><path clip-path="url(#f-p0123456789)" d="M 1.04 2.0"/></svg>'
    rounded = page.replace("p0123456789", "p9876543210").replace("1.04", "1.03")
    assert page_finding(page, [rounded]).status == "passed"
    assert page.replace(*change) != page
    assert page_finding(page.replace(*change), [page]).status == "failed"


def test_lines_of_the_ledger_that_were_edited_or_removed_are_said(run_copy):
    run = run_copy / "run"
    beside, inside = run_copy / LEDGER, run / "log" / LEDGER
    honest = beside.read_text()
    look = json.loads(honest.splitlines()[0])
    for _ in range(2):
        reveal(run, "report", read_record(run))
    known, later = (line + "\n" for line in beside.read_text().splitlines()[-2:])
    beside.write_text(honest + known)
    assert doubts(run) == ("1 evaluation in log/ is not in the ledger next to the folder",)
    beside.write_text(later)  # a moved folder has lost its first evaluations
    assert doubts(run) == ()
    beside.write_text(json.dumps({**look, "configuration": "f" * 64}) + "\n" + later)
    assert "1 evaluation differs between log/ and the ledger next to the folder" in doubts(run)
    beside.write_text(honest[:50] + "\n" + honest + later)
    assert doubts(run) == ("1 line cannot be read",)
    beside.write_text(honest + known + later)
    inside.write_text(later)
    assert doubts(run) == ("the evaluation of the run is not in log/",)


def test_fits_are_alike_up_to_what_another_processor_does():
    assert unlike(FIT, FIT) == []
    near = replace(FIT, predictions={name: value + 1e-4 for name, value in FIT.predictions.items()})
    assert unlike(near, FIT) == []
    assert unlike(replace(FIT, facts={"weight": 0.6}), FIT) == ["facts and notes"]
    assert unlike(replace(FIT, rows=frozenset("abc")), FIT) == ["rows"]
    far = {**FIT.held_out, "a": np.array([0.9])}
    assert unlike(replace(FIT, held_out=far), FIT) == ["held_out differ by up to 0.9"]
    blank = replace(FIT, held_out={**FIT.held_out, "a": np.array([np.nan])})
    assert unlike(blank, FIT) == ["held_out are missing elsewhere"]
    fewer = {name: value for name, value in FIT.predictions.items() if name != "e"}
    assert unlike(replace(FIT, predictions=fewer), FIT) == ["predictions of other subjects"]
    more = {**FIT.predictions, "z": np.array([1.0])}
    assert unlike(replace(FIT, predictions=more), FIT) == []  # requested later


def test_some_stored_fits_are_made_again_andcompared(tmp_path):
    predicted = dict.fromkeys(FIT.predictions, "0")
    for key, stage in (("f", "core"), ("m", "mixture"), ("k", "core")):
        FitStore(tmp_path).save(replace(FIT, key=key, stage=stage, predicted=predicted), keep_state=False)
    store = SpotCheckedFits(tmp_path, known=frozenset("k"))
    assert store.chosen == {"f", "m"}
    assert store.load("f", state=False) is None
    assert store.load("m", state=False) is None
    assert store.load("k", state=False) is not None  # compared elsewhere
    store.save(replace(FIT, predicted=predicted), keep_state=False)
    with pytest.raises(DataError, match=r"a stored fit .core. does not follow from the settings and data: predictions"):
        store.save(replace(FIT, predictions={**FIT.predictions, "e": np.array([0.9])}), keep_state=False)


def test_one_class_turned_far_from_the_cut_is_named_and_one_at_the_cut_is_round_off():
    risks = np.linspace(0.05, 0.95, 19)
    again = pd.DataFrame(
        {
            "task": "cognitive",
            "model": "core",
            "repeat": 0,
            "fold": 0,
            "subject": [f"s{k}" for k in range(19)],
            "y_score": risks,
            "y_pred": (risks >= 0.5 - 1e-9).astype(float),
        }
    )
    far, near = again.copy(), again.copy()
    far.loc[2, "y_pred"] = 1.0
    near.loc[9, "y_pred"] = 0.0  # its risk is the smallest that counts as positive
    assert compared("c", again, again, classes=True).status == "passed"
    assert compared("c", again, near, classes=True).status == "passed"
    assert "1 subject is in the other class" in compared("c", again, far, classes=True).what


def test_a_gpu_that_rounds_is_not_accused_and_an_edit_is_found():
    fit = replace(FIT, stage="finetune", curve=np.array([1.0, 0.5]), arrays={"state/0/3/w": np.ones(4, np.float32)})
    weights = fit.arrays["state/0/3/w"] + np.array([1e-5, 0, 0, 0], np.float32)
    again = replace(
        fit,
        arrays={"state/0/3/w": weights},
        curve=fit.curve * (1 + 1e-6),
        facts={name: value * (1 + 1e-6) for name, value in FIT.facts.items()},
    )
    assert unlike(fit, again) == ["fitted numbers", "facts and notes", "training curve"]
    assert unlike(fit, again, exactly=False) == []
    assert not same_state(fit, again, exactly=True)
    edited = [
        replace(fit, facts={"weight": 0.6}),
        replace(fit, curve=np.array([1.0, 0.4])),
        replace(fit, arrays={"state/0/3/w": np.array([1, 1, 1, 1.1], np.float32)}),
        replace(fit, arrays={**fit.arrays, "features/mean": np.zeros(1)}),
    ]
    assert all(unlike(one, again, exactly=False) for one in edited)
    # A mixture whose network has no weight predicts the same, whatever rounding did to the network.
    mixture = replace(FIT, stage="mixture")
    assert unlike(mixture, replace(mixture, facts={k: v + 1e-6 for k, v in FIT.facts.items()})) == []
    assert unlike(mixture, replace(mixture, facts={"weight": 0.6})) == ["facts and notes"]


class Stored(FitStore):
    """Fits in memory."""

    def __init__(self, *fits):
        object.__setattr__(self, "fits", {fit.key: fit for fit in fits})

    def load(self, key, *, state):
        assert state == bool(self.fits[key].arrays)
        return self.fits[key]


def test_early_fits_of_another_machine_are_compared_by_what_they_compute():
    """Networks differ by rounding, so that no fit of the folder can be expected to be equal to the last bit."""
    network = replace(FIT, stage="finetune")
    rounded = {name: value + 1e-9 for name, value in network.predictions.items()}
    early = FitResult("e", "pretrain", frozenset("ab"), ("age",), arrays={"state/0/1/w": np.array([1.0, 2.0])})
    fits = {"f": network, "e": early}
    rows = np.random.default_rng(0).normal(size=(8, 2))

    def apply(fit):
        return [rows * fit.arrays["state/0/1/w"]]

    def said(factor):
        other = replace(early, arrays={"state/0/1/w": early.arrays["state/0/1/w"] * factor})
        return stored_finding(fits, Stored(replace(network, predictions=rounded), other), apply=apply)

    assert said(1 + 1e-4).status == "passed"
    assert said(1.05).status == "failed"
    assert "e (pretrain): what it computes differs" in said(1.05).what
    half = stored_finding({**fits, "g": replace(network, key="g")},
                          Stored(replace(network, predictions=rounded), early, replace(network, key="g")),
                          apply=apply)  # fmt: skip
    assert half.status == "warning"
    assert half.what == "equal to the last bit: 1 network; only up to rounding: 1"


def test_tables_and_pages_that_a_run_does_not_write_are_named(tmp_path):
    for name in ("scores.tsv", "calibrated.tsv", "best.csv", "old.html", "notes.txt"):
        (tmp_path / name).touch()
    (found,) = strange_findings(tmp_path, {"scores.tsv"})
    assert found.status == "warning"
    assert "best.csv, calibrated.tsv, old.html" in found.what
    assert not strange_findings(tmp_path, {"scores.tsv", "calibrated.tsv", "best.csv", "old.html"})
