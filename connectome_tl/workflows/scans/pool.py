"""Process scans serially or in parallel, also by several processes that share an output folder."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.process import BaseProcess

from connectome_tl.errors import ConnectomeTLError, InternalError, InterruptedRunError, OutputError, with_subject
from connectome_tl.imaging.read.inputs import Scan
from connectome_tl.settings.imaging import AnyScanSettings
from connectome_tl.workflows.folder import alone
from connectome_tl.workflows.scans.result import Plan
from connectome_tl.workflows.scans.scan import Done, process_scan

_GRACE = 3.0  # s that a worker has to end by itself


def process_scans(
    scans: list[Scan], plan: Plan[AnyScanSettings], n_workers: int
) -> Iterator[tuple[str, Done | ConnectomeTLError]]:
    """Yield each scan's name with its result or error on completion; failed scans do not stop others.

    All workers are stopped when the generator ends for any reason.

    Raises:
        OutputError: the output cannot be written, which affects all scans.
        InterruptedRunError: a worker was killed.
    """
    several = n_workers > 1 and len(scans) > 1
    for name, result in _at_once(scans, plan, n_workers) if several else _in_turn(scans, plan):
        if isinstance(result, OutputError):
            raise result
        yield name, result


def _in_turn(scans: list[Scan], plan: Plan[AnyScanSettings]) -> Iterator[tuple[str, Done | ConnectomeTLError]]:
    for scan in scans:
        yield scan.name, _guarded(scan, plan)


def _at_once(
    scans: list[Scan], plan: Plan[AnyScanSettings], n_workers: int
) -> Iterator[tuple[str, Done | ConnectomeTLError]]:
    others = active_children()  # of the calling program, as the workers of an earlier `run`
    pool = ProcessPoolExecutor(min(n_workers, len(scans)), mp_context=get_context("spawn"), initializer=_begin)
    try:
        with _signals_held():  # a worker whose start is interrupted ends with a traceback
            waiting = {pool.submit(_in_worker, scan, plan): scan.name for scan in scans}
        for future in as_completed(waiting):
            yield waiting[future], future.result()
    except BrokenProcessPool as error:
        raise InterruptedRunError(
            "a worker was killed, usually for lack of memory",
            remedy="Run the same command again; it resumes. Fewer --n-cpus need less memory.",
        ) from error
    except BaseException:
        _stop([worker for worker in active_children() if worker not in others])
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _stop(workers: Sequence[BaseProcess]) -> None:
    """End workers with their external programs and temporary folders; those that do not end in time are killed."""
    for worker in workers:
        worker.terminate()
    until = time.monotonic() + _GRACE
    for worker in workers:
        worker.join(max(until - time.monotonic(), 0))
        worker.kill()


@contextmanager
def _signals_held() -> Iterator[None]:
    """Handle SIGINT and SIGTERM after the block instead of inside it.

    Processes started in the block never see SIGINT, which a terminal sends to all of them: a blocked signal is
    inherited. SIGTERM, which ends workers, is not blocked.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals in the main thread only
        return
    held: list[int] = []
    now = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handlers = {number: handler for number, handler in now.items() if callable(handler)}
    for number in handlers:
        signal.signal(number, lambda number, _: held.append(number))
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if held:
            signal.raise_signal(held[0])


def _begin() -> None:
    """Initialise a worker: ignore interrupts, end on SIGTERM, and end with the parent process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end(*_: object) -> None:
    raise SystemExit(75)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE)
        os._exit(75)


def _in_worker(scan: Scan, plan: Plan[AnyScanSettings]) -> Done | ConnectomeTLError:
    """`_guarded`; a worker that is told to end does not begin another scan."""
    try:
        return _guarded(scan, plan)
    except SystemExit:
        os._exit(75)


def _guarded(scan: Scan, plan: Plan[AnyScanSettings]) -> Done | ConnectomeTLError:
    """Result or error of one scan; internal errors are caught, so that other scans continue."""
    from threadpoolctl import threadpool_limits

    try:
        # The order of summation depends on the number of threads: results would differ between runs.
        with threadpool_limits(limits=1), alone(plan.out, scan.name):
            return process_scan(scan, plan)
    except ConnectomeTLError as error:
        return with_subject(error, scan.name)
    except MemoryError as error:
        return InterruptedRunError(
            f"not enough memory: {error}",
            subject=scan.name,
            remedy="Run again with fewer --n-cpus, or on a machine with more memory.",
        )
    except OSError as error:
        return OutputError(f"{error.strerror or error}", subject=scan.name, file=error.filename)
    except Exception as error:
        return InternalError(
            f"{type(error).__name__}: {error}",
            subject=scan.name,
            file=scan.dwi or scan.anatomical,
            remedy="This is a bug in connectome-tl. Please report it.",
        )
