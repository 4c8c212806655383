"""Limit fits to one thread, so that results do not depend on the number of cores."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from threadpoolctl import ThreadpoolController


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread for torch and linear algebra; for small fits two threads need several times the CPU time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with _libraries(len(sys.modules)).limit(limits=1):
            yield
    finally:
        torch.set_num_threads(threads)


@lru_cache(maxsize=1)
def _libraries(n_modules: int) -> ThreadpoolController:
    """Loaded libraries with threads, searched for again when modules were imported in between.

    The search takes some milliseconds, and a study has hundreds of chunks of fits.
    """
    del n_modules
    return ThreadpoolController()
