"""Draw the page of a run, its figures and tables again, and compare them with the files of its folder."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from connectome_tl.audit.results import page_finding, same_drawing
from connectome_tl.plurals import counted
from connectome_tl.provenance import file_hash, read_own_json_object, sidecar_path, versions
from connectome_tl.report.explanations import render_explanations
from connectome_tl.report.figures.drawing import drawing_bytes
from connectome_tl.report.render import render_report
from connectome_tl.report.tables.downloads import collected, slug
from connectome_tl.report.text.references import bibliography, references_of
from connectome_tl.settings.records.audit import Finding
from connectome_tl.settings.records.explanations import ExplanationMap, ExplanationRecord, MapFile
from connectome_tl.settings.records.results import RunRecord
from connectome_tl.workflows.study.explain_files import FOLDER, PAGE, item_table, item_tables, read_explanations
from connectome_tl.workflows.study.ledger import TITLE, Row, looks, may_show, with_ledger, with_rows
from connectome_tl.workflows.study.report import FIGURES, TABLES, FigureKind, paper_tables
from connectome_tl.workflows.study.results import table_cells, table_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LIBRARY = "matplotlib"
_TIME = re.compile(r"<span>(Finished|Duration): <b>([\d :hmins-]+)</b></span>")
State = tuple[tuple[Row, ...], tuple[tuple[str, str], ...]]
_REMEDY = "Write them again from the results: connectome-tl report RUN_DIR --tables --figures svg."


@dataclass(frozen=True)
class Drawn:
    """The page in its possible forms, and the other files of `report`, by name."""

    page: str
    tables: dict[str, str]
    figures: dict[str, bytes] = field(default_factory=dict)


def drawings(folder: Path, record: RunRecord) -> Iterator[Drawn]:
    """The page as drawn by `run`, then as `report` may have drawn it later.

    The later page has the ledger of its time, perhaps times of the log, and the maps of `explain`, if any; figures only
    if the folder contains some. Rows of the ledger and times are taken from the page or from the folder of tables, if
    they are possible.
    """
    first = _drawn(folder, with_ledger(record, looks(folder, record), until_first=True), None, ())
    yield first
    figures = {False: first.figures}  # no figure shows the ledger or a time
    found = read_explanations(folder, record.provenance.get("configuration", ""))
    for rows, times in dict.fromkeys([_of_page(folder / "report.html"), *map(_of_table, _ledger_tables(folder))]):
        if rows and may_show(folder, record, rows):
            shown = with_rows(record, rows)
            for explained in dict.fromkeys([found is not None, False]):
                one = _drawn(folder, shown, found if explained else None, times, figures.get(explained))
                figures[explained] = one.figures
                yield one


def _of_page(page: Path) -> State:
    """Rows of the ledger on a page, and its date and duration."""
    text = page.read_text("utf-8", "replace") if page.is_file() else ""
    table = re.search(rf"<caption>{TITLE} .*?<tbody>(.*?)</tbody>", text, re.DOTALL)
    lines = re.findall(r"<tr>(.*?)</tr>", table[1] if table else "", re.DOTALL)
    cells = [re.findall(r"<t[dh]\b[^>]*>(.*?)</t[dh]>", line, re.DOTALL) for line in lines]
    return _rows(cells), tuple(_TIME.findall(text))


def _of_table(table: Path) -> State:
    return _rows([line.split("\t") for line in table.read_text("utf-8", "replace").splitlines()[1:]]), ()


def _rows(lines: Iterable[Sequence[str]]) -> tuple[Row, ...]:
    found = [tuple(map(unescape, cells[1:])) for cells in lines]
    return tuple((cells[0], cells[1], cells[2], cells[3]) for cells in found if len(cells) == 4)


def _ledger_tables(folder: Path) -> list[Path]:
    return sorted((folder / TABLES).glob(f"*-{slug(TITLE)}-*.tsv"))


def _drawn(
    folder: Path,
    record: RunRecord,
    found: ExplanationRecord | None,
    timing: Iterable[tuple[str, str]],
    known: dict[str, bytes] | None = None,
) -> Drawn:
    figures: dict[str, bytes] = known or {}
    every_kind: tuple[FigureKind, ...] = ("svg", "pdf")
    kinds = [kind for kind in every_kind if any((folder / FIGURES).glob(f"*.{kind}"))]

    def keep(name: str, figure: Figure) -> None:
        figures.update({f"{name}.{kind}": drawing_bytes(figure, kind) for kind in kinds})

    with collected() as every:
        page = render_report(record, found, timing=list(timing), export=keep if kinds and not figures else None)
    tables = {**paper_tables(every), "references.bib": bibliography(references_of(record, found))}
    return Drawn(page, tables, figures)


def paper_findings(folder: Path, record: RunRecord, drawn: Iterable[Drawn]) -> list[Finding]:
    """Compare the files of `report --tables` and `--figures` with the same drawn again; nothing if there are none.

    Another version of Matplotlib writes other bytes of the same drawing. PDF files are then not compared; of SVG files
    the texts and marks always are.
    """
    same_library = record.versions.get(_LIBRARY) == versions([_LIBRARY]).get(_LIBRARY)
    tables, figures = _files(folder / TABLES, (".tsv", ".tex", ".bib")), _files(folder / FIGURES, (".svg", ".pdf"))
    closest: dict[str, list[str]] = {}
    for one in drawn if tables or figures else ():
        unlike = {}
        if tables:
            unlike[TABLES] = _unlike_tables(tables, one.tables)
        if figures:
            unlike[FIGURES] = _unlike_figures(figures, one.figures, pdf=same_library)
        for part, wrong in unlike.items():
            if part not in closest or len(wrong) < len(closest[part]):
                closest[part] = wrong
        if not any(closest.values()):
            break
    return [_paper_finding(part, wrong) for part, wrong in closest.items()]


def _paper_finding(part: str, wrong: list[str]) -> Finding:
    check = f"{part}/ shows results.json"
    if not wrong:
        return Finding(check=check, status="passed", what="drawn again, every file is the same")
    more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
    return Finding(check=check, status="failed", what="; ".join(wrong[:5]) + more, remedy=_REMEDY)


def _files(folder: Path, endings: tuple[str, ...]) -> dict[str, bytes]:
    if not folder.is_dir():
        return {}
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.suffix in endings}


def _unlike_tables(recorded: dict[str, bytes], again: dict[str, str]) -> list[str]:
    wrong = []
    for name, data in recorded.items():
        text = data.decode("utf-8", "replace")
        if name not in again:
            wrong.append(f"{name} is not a table of this report")
        elif text != again[name]:
            pairs = zip(text.splitlines(), again[name].splitlines(), strict=False)
            first = next((k for k, (one, two) in enumerate(pairs, start=1) if one != two), None)
            wrong.append(f"{name} differs" + ("" if first is None else f" in line {first}"))
    return [*wrong, *(f"{name} is not there" for name in again if name not in recorded)]


def _unlike_figures(recorded: dict[str, bytes], again: dict[str, bytes], *, pdf: bool) -> list[str]:
    wrong = []
    for name, data in recorded.items():
        if name not in again:
            wrong.append(f"{name} is not a figure of this report")
        elif data != again[name] and (pdf if name.endswith(".pdf") else not same_drawing(data, again[name])):
            wrong.append(f"{name} differs")
    return [*wrong, *(f"{name} is not there" for name in again if name not in recorded)]


def explanation_findings(folder: Path, record: RunRecord) -> list[Finding]:
    """The page and tables of `explain` from its summary; the maps are not computed again."""
    found = read_explanations(folder, record.provenance.get("configuration", ""))
    home = folder / FOLDER
    if found is None:
        return []
    findings = []
    if (home / PAGE).is_file():
        page = (home / PAGE).read_text("utf-8", "replace")
        finding = page_finding(page, [render_explanations(found, record)])
        findings.append(finding.model_copy(update={"check": f"{PAGE} shows its summary"}))
    known = dict(item_tables(found))
    wrong = [f"{one.name} {text}" for one in found.files if (text := _unlike_items(home / one.name, one, known, found))]
    check = "tables of the explanations show their summary"
    if wrong:
        remedy = "Make them again: connectome-tl explain RUN_DIR."
        return [*findings, Finding(check=check, status="failed", what="; ".join(wrong[:5]), remedy=remedy)]
    text = f"{counted(len(found.files), 'table is', 'tables are')} the same; the maps were not computed again"
    return [*findings, Finding(check=check, status="passed", what=text)]


def _unlike_items(
    file: Path, one: MapFile, known: Mapping[str, tuple[ExplanationMap, str]], found: ExplanationRecord
) -> str:
    """Differences of a table of items from its sidecar and from the summary, which has the strongest edges only."""
    if not file.is_file() or not sidecar_path(file).is_file():
        return "or its sidecar is not there"
    side = read_own_json_object(sidecar_path(file))
    if side.get("Sha256") != file_hash(file) or file.stat().st_size != one.n_bytes:
        return "is not the file that its sidecar describes"
    if one.name not in known:
        return "belongs to no map of the summary"
    shown, kind = known[one.name]
    if side.get("Unit") != shown.unit:
        return "has a sidecar with another unit"
    rows = table_text(pd.DataFrame(item_table(shown, kind, found)))
    cells = table_cells(file)
    if len(cells) != one.n_rows or list(cells.columns) != list(rows.columns):
        return "has other rows or columns"
    lost = set(rows.itertuples(index=False, name=None)) - set(cells.itertuples(index=False, name=None))
    return f"differs in {counted(len(lost), 'row')}" if lost else ""
