"""Run fits on the workers of a Dask scheduler, with the same keys, store and results.

Workers only compute; the calling process stores their results, so that no shared disk is needed. If a worker dies, its
chunk is repeated by another one. Rows and parents are separate tasks on the scheduler, which can be resent; scattered
data would be lost with a worker.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from connectome_tl.errors import DataError, InterruptedRunError, OutputError, UsageError

if TYPE_CHECKING:
    from distributed import Client, Future

_ANSWER, _PATIENCE = 15, 60  # seconds to wait for the scheduler's answer, and for its first worker
_ONE_AT_A_TIME = threading.Lock()  # in workers with several threads, since torch's random state is per process


@dataclass(frozen=True, eq=False)
class Cluster:
    """A connected scheduler."""

    client: Client
    address: str
    _held: dict[tuple[str, ...], Future] = field(default_factory=dict)

    @property
    def n_workers(self) -> int:
        """Number of connected workers, at least 1."""
        return max(1, len(self.client.scheduler_info(n_workers=-1)["workers"]))

    def run(
        self,
        call: Callable[..., list[Any]],
        jobs: Sequence[tuple[Any, Mapping[str, Any], Mapping[str, Any]]],
        *rest: Any,
    ) -> Iterator[list[Any]]:
        """Run `call(own, shared, parents, *rest)` for every job on some worker, and yield results as they finish.

        Args:
            jobs: data of the job; data shared by many jobs, by name; parents, by key.

        Raises:
            InterruptedRunError: the connection to the scheduler is lost, or a job has killed several workers.
            ConnectomeTLError: raised by the job itself.
        """
        from distributed import CancelledError, as_completed
        from distributed.scheduler import KilledWorker

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph")
            futures = [
                self.client.submit(
                    call, own, self._hold("rows", shared), self._hold("parents", parents), *rest, pure=False
                )
                for own, shared, parents in jobs
            ]
        try:
            for future, result in as_completed(futures, loop=self.client.loop, with_results=True):
                if isinstance(result, BaseException):  # the result of a cancelled future is its error
                    raise result
                yield result
                future.release()
        except KilledWorker as error:
            raise InterruptedRunError(
                "several workers died during the same fits",
                remedy="Give the workers more memory, then run the same command again; finished fits are kept.",
            ) from error
        except (CancelledError, OSError) as error:
            raise InterruptedRunError(
                f"the Dask scheduler {self.address} has stopped",
                remedy="Start it again and run the same command; finished fits are kept.",
            ) from error
        finally:
            for future in futures:
                future.release()
            self._held.clear()

    def _hold(self, what: str, values: Mapping[str, Any]) -> Future:
        """A task that returns these values, shared by all jobs that need them."""
        name = (what, *sorted(f"{key} {id(value)}" for key, value in values.items()))
        if name not in self._held:
            self._held[name] = self.client.submit(_itself, dict(values), pure=False)
        return self._held[name]


_CLUSTER: ContextVar[Cluster | None] = ContextVar("cluster", default=None)


def _itself(values: dict[str, Any]) -> dict[str, Any]:
    return values


def current_cluster() -> Cluster | None:
    """The cluster that `fit` uses; None for this machine."""
    return _CLUSTER.get()


@contextmanager
def on_scheduler(address: str | None) -> Iterator[None]:
    """Context in which `fit` uses the workers of this scheduler; no effect if None.

    Raises:
        UsageError: Dask is not installed, or this is not an address.
        OutputError: no scheduler answers there, or it has no worker.
    """
    if address is None:
        yield
        return
    with _connected(address) as client:
        token = _CLUSTER.set(Cluster(client, address))
        try:
            yield
        finally:
            _CLUSTER.reset(token)


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    try:
        from distributed import Client
        from distributed.comm import get_address_host_port
    except ImportError as error:
        raise UsageError("--scheduler needs Dask", remedy="pip install 'connectome-tl[cluster]'") from error
    try:
        get_address_host_port(address)  # a client of a wrong address prints a traceback when it is deleted
        client = Client(address, timeout=_ANSWER, set_as_default=False)
    except ValueError as error:
        raise UsageError(f"--scheduler: {error}", expected="tcp://HOST:8786", got=address) from error
    except OSError as error:
        raise OutputError(
            f"no Dask scheduler answers at {address}", remedy="Start it with `dask scheduler`; it prints its address."
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=_PATIENCE)
        except TimeoutError as error:
            raise OutputError(
                f"the Dask scheduler at {address} has no worker",
                remedy=f"Start some: dask worker {address} --nthreads 1 --nworkers 4",
            ) from error
        yield client


@contextmanager
def as_worker(expected: str, own: Callable[[], str]) -> Iterator[None]:
    """In a worker: run one fit at a time, on one thread, with the same code as the calling process.

    Args:
        expected: `code_version()` of the calling process. own: returns that of this process.

    Raises:
        DataError: the versions differ, so that the fits would not match their keys.
    """
    from threadpoolctl import threadpool_limits

    with _ONE_AT_A_TIME, threadpool_limits(1):
        if own() != expected:
            raise DataError(
                "a Dask worker has other code or libraries than this process",
                expected=expected[:12],
                got=own()[:12],
                remedy="Install the same versions in the workers' environment, and start them again.",
            )
        yield
