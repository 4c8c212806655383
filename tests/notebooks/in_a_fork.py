"""Execute a notebook in a forked process, which has what the tests have imported already."""

from __future__ import annotations

import multiprocessing
import os
import traceback
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

FORK = multiprocessing.get_context("fork")
Displays = list[set[str]]


def run_cells(cells: list[str], folder: Path, *, timeout: float) -> list[Displays]:
    """Types of the displayed outputs of each cell; cells are executed by IPython, figures drawn by its own backend.

    Raises:
        RuntimeError: a cell failed, or all took longer than `timeout` seconds.
    """
    ours, theirs = FORK.Pipe(duplex=False)
    process = FORK.Process(target=_work, args=(cells, folder, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        found = ours.recv() if ours.poll(timeout) else "the notebook took too long"
    except EOFError:
        found = "the process of the notebook ended"
    finally:
        process.kill()
        process.join()
    if isinstance(found, str):
        raise RuntimeError(found)
    return found


def _work(cells: list[str], folder: Path, answer: Connection) -> None:
    try:
        answer.send(_executed(cells, folder))
    except BaseException:
        answer.send(traceback.format_exc())


def _executed(cells: list[str], folder: Path) -> list[Displays]:
    os.chdir(folder)
    warnings.resetwarnings()
    warnings.simplefilter("ignore")
    import matplotlib
    from IPython.core.displayhook import DisplayHook
    from IPython.core.displaypub import CapturingDisplayPublisher
    from IPython.core.interactiveshell import InteractiveShell

    class Hook(DisplayHook):
        """Keeps the values of last lines beside what is displayed."""

        def write_format_data(self, format_dict: dict[str, Any], md_dict: dict[str, Any] | None = None) -> None:
            self.shell.display_pub.outputs.append({"data": format_dict})

    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(display_pub_class=CapturingDisplayPublisher, displayhook_class=Hook)
    matplotlib.use("module://matplotlib_inline.backend_inline", force=True)
    from matplotlib_inline.backend_inline import _enable_matplotlib_integration

    _enable_matplotlib_integration()
    found = []
    for cell in cells:
        shell.display_pub.outputs = []
        shell.run_cell(cell).raise_error()
        found.append([set(one["data"]) for one in shell.display_pub.outputs])
    return found
