"""Prepared inference: the same outputs from any thread, on any number of threads."""

import contextlib
import ctypes
import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn.backends.lanes.session import callers, conductor, forward_pass, team
from fastcnn.data import Preprocessing
from fastcnn.errors import ConfigurationError, DataError, NonFiniteError, ShapeError
from fastcnn.layers import BatchNorm2d, Conv2d, ConvTranspose2d, Flatten, Linear, Sequential

NETWORKS = ("report_cnn", "lenet5", "vgg_small", "resnet8")


def network(name: str) -> Sequential:
    """A network whose running statistics differ from their initial values."""
    model = getattr(fastcnn.models, name)(seed=0)
    generator = np.random.default_rng(1)
    for key, value in model.state_dict().items():
        if "running" in key:
            value[...] = generator.uniform(0.5, 1.5, value.shape)
    return model


def samples(model: Sequential, count: int) -> np.ndarray:
    assert model.input_shape is not None
    return np.random.default_rng(2).standard_normal((count, *model.input_shape)).astype(np.float32)


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_are_those_of_the_model(name: str) -> None:
    model = network(name)
    x = samples(model, 70)
    exact = deepcopy(model).to(np.float64).logits(x, backend="im2col")
    largest = np.abs(exact).max()
    sessions = [fastcnn.session(model, threads=threads) for threads in (1, 2, 3)]
    for count in (1, 2, 5, 8, 15, 16, 17, 33, 70):
        found = [session.logits(x[:count]) for session in sessions]
        assert np.abs(found[0] - exact[:count]).max() < 1e-5 * largest
        for other in found[1:]:
            assert np.array_equal(other, found[0])


def test_bytes_and_classes() -> None:
    model = network("report_cnn")
    model.preprocessing = Preprocessing(mean=(0.3,), std=(0.2,), trained_on="uint8")
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 28, 28)).astype(np.uint8)
    session = fastcnn.session(model)
    for count in (1, 20):
        exact = deepcopy(model).to(np.float64)
        logits = exact.logits(images[:count], backend="im2col")
        assert session.logits(images[:count]) == pytest.approx(logits, abs=1e-5)
        assert session(images[:count] / 255.0) == pytest.approx(logits, abs=1e-5)
        found = session.predict_proba(images[:count])
        assert found == pytest.approx(exact.predict_proba(images[:count]), abs=1e-5)
        assert (session.predict(images[:count]) == logits.argmax(axis=1)).all()
    with pytest.raises(DataError, match="trained on bytes"):
        session.logits(images.astype(np.float32))


@pytest.mark.parametrize("classes", [2, 3, 10, 16, 17, 100])
def test_probabilities(classes: int) -> None:
    model = Sequential(Flatten(), Linear(6, classes, seed=0), input_shape=(1, 2, 3))
    session = fastcnn.session(model)
    for count in (1, 7, 300):
        x = 20 * samples(model, count)
        exact = deepcopy(model).to(np.float64).predict_proba(x)
        assert session.predict_proba(x) == pytest.approx(exact, abs=1e-5)
        assert session.predict_proba(x).shape == (count, classes)
    for wrong in (np.nan, np.inf):
        x[123, 0, 1, 1] = wrong
        with pytest.raises(NonFiniteError, match="first that of sample 123"):
            session.predict_proba(x)
    one = fastcnn.session(Sequential(Flatten(), Linear(6, 1, seed=0), input_shape=(1, 2, 3)))
    with pytest.raises(ConfigurationError, match="one output cannot tell classes apart"):
        one.predict_proba(x)


def test_more_samples_than_a_batch_are_taken_in_parts() -> None:
    model = network("lenet5")
    x = samples(model, 23)
    whole = fastcnn.session(model).logits(x)
    assert fastcnn.session(model, max_batch=4).logits(x) == pytest.approx(whole, abs=1e-5)


@pytest.mark.parametrize("most", [8, 256, 257, 1000])
def test_any_largest_batch_gives_the_same(most: int) -> None:
    model = network("report_cnn")
    x = samples(model, 700)
    session = fastcnn.session(model, max_batch=most)
    assert session.max_batch == most
    assert session.logits(x) == pytest.approx(model.logits(x), abs=1e-5)


def test_a_pass_refuses_more_samples_than_it_has_memory_for() -> None:
    model = network("report_cnn")
    inference = fastcnn.session(model)._inference
    assert inference is not None
    with pytest.raises(ValueError, match="2 blocks of a program for 1"):
        inference.by_samples(16).segments(2)


def test_a_session_keeps_the_weights_of_its_beginning() -> None:
    model = network("lenet5")
    x = samples(model, 3)
    session, before = fastcnn.session(model), model.logits(x)
    model.parameter_vector[...] = 0.0
    assert np.array_equal(session.logits(x), before)
    assert not model.logits(x).any()


@pytest.mark.parametrize("count", [1, 40])
def test_a_model_notices_that_its_arrays_change(count: int) -> None:
    model = Sequential(
        Conv2d(1, 4, 3, seed=0), BatchNorm2d(4), Flatten(), Linear(64, 3, seed=1),
        input_shape=(1, 6, 6),
    )  # fmt: skip
    x = samples(model, count)
    changes = (
        lambda: model.parameter_vector.__imul__(2.0),
        lambda: model["0"].weight.__setitem__((0, 0, 0, 0), 3.0),
        lambda: model["1"].buffers["running_var"].__setitem__(1, 7.0),
        lambda: model.replace("3", Linear(64, 2, seed=2)),
        lambda: model.parameter_vector.__setitem__(0, np.nan),
    )
    for change in changes:
        before = model.logits(x)
        assert np.array_equal(model.logits(x), before)
        change()
        exact = deepcopy(model).to(np.float64).logits(x, backend="im2col")
        found = model.logits(x)
        assert found.shape != before.shape or not np.array_equal(found, before)
        assert found == pytest.approx(exact, abs=1e-5, nan_ok=True)


def test_what_the_engine_does_not_cover_is_computed_by_im2col() -> None:
    model = Sequential(Conv2d(1, 2, 3, seed=0), BatchNorm2d(2), input_shape=(1, 5, 5)).to(
        np.float64
    )
    x = np.random.default_rng(0).standard_normal((5, 1, 5, 5))
    session = fastcnn.session(model, max_batch=2)
    assert session.logits(x) == pytest.approx(model.logits(x, backend="im2col"), abs=1e-12)
    up = Sequential(ConvTranspose2d(1, 2, 2, seed=0), input_shape=(1, 4, 4))
    x = samples(up, 1)
    assert fastcnn.session(up).logits(x) == pytest.approx(up.logits(x, backend="im2col"), abs=1e-6)


def test_arguments_are_checked() -> None:
    model = network("report_cnn")
    for wrong in ({"max_batch": 0}, {"threads": 0}, {"threads": 1.5}, {"max_batch": True}):
        with pytest.raises(ConfigurationError, match=f"{next(iter(wrong))} must be a positive"):
            fastcnn.session(model, **wrong)
    session = fastcnn.session(model)
    with pytest.raises(ShapeError, match=r"samples of shape \(N, 1, 28, 28\)"):
        session.logits(np.zeros((1, 28, 28), np.float32))
    with pytest.raises(ConfigurationError, match="has a backend and a batch size"):
        session.logits(samples(model, 1), backend="im2col")
    untracked = Sequential(
        Conv2d(1, 2, 3, seed=0), BatchNorm2d(2, track_running_stats=False), input_shape=(1, 5, 5)
    )
    with pytest.raises(ConfigurationError, match="layer '1' has no running statistics"):
        fastcnn.session(untracked)


@pytest.mark.parametrize("name", ["report_cnn", "vgg_small"])
def test_many_threads_call_one_session(name: str) -> None:
    model = network(name)
    x = samples(model, 40)
    session = fastcnn.session(model, threads=2)
    sizes = (1, 3, 17, 40)
    expected = {size: session.logits(x[:size]) for size in sizes}

    def ask(number: int) -> bool:
        return all(
            np.array_equal(session.logits(x[:size]), expected[size])
            for size in np.roll(sizes, number)
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(64)))


def test_sessions_leave_no_threads_and_no_memory() -> None:
    model = network("report_cnn")
    x = samples(model, 1)
    before = set(threading.enumerate())
    gc.collect()
    users = team.users()
    kept = [fastcnn.session(model, threads=3) for _ in range(3)]
    for _ in range(50):
        fastcnn.session(model, threads=3).logits(x)
    assert team.users() == users + 3
    assert len(set(threading.enumerate()) - before) <= 2
    del kept
    gc.collect()
    assert team.users() == users
    if not users:
        assert not set(threading.enumerate()) - before


@pytest.mark.slow
def test_a_thousand_sessions() -> None:
    resource = pytest.importorskip("resource")
    model = network("lenet5")
    x = samples(model, 8)
    sizes = []
    for _ in range(4):
        for _ in range(250):
            fastcnn.session(model, threads=2).logits(x)
        sizes.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    assert sizes[-1] - sizes[0] < 4096


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_goes_on_alone() -> None:
    program = (
        "import os, numpy as np, fastcnn;"
        "model = fastcnn.models.vgg_small(seed=0);"
        "x = np.zeros((9, 3, 32, 32), np.float32);"
        "session = fastcnn.session(model, threads=2);"
        "before = session.logits(x);"
        "child = os.fork();"
        "same = np.array_equal(session.logits(x), before);"
        "same &= np.array_equal(fastcnn.session(model, threads=2).logits(x), before);"
        "child or os._exit(0 if same else 3);"
        "assert same and os.waitpid(child, 0)[1] == 0"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)


class FakeCores:
    """A separate team, on a machine with a simulated number of cores.

    Attributes
    ----------
    here : int
        The core of each calling thread.
    allowed : int
        Mask of the cores that a thread may use.
    moved : list of (int, int)
        Threads and masks.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cores: set[int]) -> None:
        self.here, self.allowed = 0, sum(1 << core for core in cores)
        self.moved: list[tuple[int, int]] = []
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_size_t, ctypes.c_void_p)
        self._functions = (
            ctypes.CFUNCTYPE(ctypes.c_int)(lambda: self.here),
            kind(self._get_cores),
            kind(self._set_cores),
        )
        monkeypatch.setattr(team, "_team", None)
        with monkeypatch.context() as patched:
            patched.setattr(os, "sched_getaffinity", lambda _: cores)
            self.session = fastcnn.session(network("vgg_small"), threads=2)
        assert team._team is not None
        self.team = team._team
        self.team.moves[[conductor.CORE_OF, conductor.GET_CORES, conductor.SET_CORES]] = [
            ctypes.cast(one, ctypes.c_void_p).value for one in self._functions
        ]

    def _get_cores(self, thread: int, size: int, mask: int) -> int:
        ctypes.memmove(mask, self.allowed.to_bytes(size, "little"), size)
        return thread

    def _set_cores(self, thread: int, size: int, mask: int) -> int:
        self.moved.append((thread, int.from_bytes(ctypes.string_at(mask, size), "little")))
        return 0


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux moves threads")
def test_helping_threads_leave_the_core_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = FakeCores(monkeypatch, {0, 1, 3})
    x = samples(network("vgg_small"), 1)
    while not cores.team.moves[conductor.FIRST_HELPER]:
        cores.session.logits(x)
    cores.team.counters[conductor.AVOIDED] = -1
    cores.moved.clear()
    for core in (0, 0, 3, 1, 7):
        cores.here = core
        cores.session.logits(x)
    helper = int(cores.team.moves[conductor.FIRST_HELPER])
    assert helper == cores.team.threads[0].native_id
    assert cores.moved == [(helper, 0b1010), (helper, 0b0011), (helper, 0b1001)]
    # The process is restricted to fewer cores, and so is the thread, without further notice.
    cores.allowed = 0b0010
    for core in (0, 3, 1):
        cores.here = core
        cores.session.logits(x)
    assert len(cores.moved) == 3


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux moves threads")
@pytest.mark.parametrize("count", [1, 9, 40])
def test_a_caller_on_the_other_core_has_the_other_halves(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    cores = FakeCores(monkeypatch, {0, 1})
    x, inference = samples(network("vgg_small"), count), cores.session._inference
    assert inference is not None
    expected = fastcnn.session(network("vgg_small"), threads=1).logits(x)
    for core in (0, 1, 1, 0):
        cores.here = core
        assert np.array_equal(cores.session.logits(x), expected)
        (memory,) = inference.choose(count)._idle
        assert memory.counters[conductor.SWAPPED] == core


class Crowd:
    """Callers of a session, on a machine with one core: the first pass runs until all wait."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(callers, "available_cores", lambda: 1)
            self.room = callers.Room()
        monkeypatch.setattr(callers, "IDLE", 0.01)
        monkeypatch.setattr(forward_pass, "room", self.room)
        monkeypatch.setattr(self.room, "_join", self._join)
        monkeypatch.setattr(forward_pass.Pass, "_run", self._hold(forward_pass.Pass._run))
        self.session = fastcnn.session(network("vgg_small"), threads=1)
        #: Samples whose passes began, the number of waiting ones, and the calling threads.
        self.begun: list[np.ndarray] = []
        self.waits = 0
        self.threads: list[threading.Thread] = []
        self.go_on = threading.Event()

    def _join(self, waiting: callers._Waiting) -> callers._Waiting:
        made = callers.Room._join(self.room, waiting)
        self.waits += 1
        return made

    def _hold(self, inner: Callable[..., None]) -> Callable[..., None]:
        def run(each: forward_pass.Pass, *arguments: Any) -> None:
            self.begun.append(arguments[2])
            assert self.go_on.wait(300)
            if len(self.begun) == 3:
                raise RuntimeError("the third one fails")
            inner(each, *arguments)

        return run

    def start(self, ask: Callable[[], None]) -> None:
        """Start a thread, and wait until its pass has begun or waits."""
        before = len(self.begun) + self.waits
        self.threads.append(threading.Thread(target=ask, daemon=True))
        self.threads[-1].start()
        while len(self.begun) + self.waits == before:
            pass

    def end(self) -> None:
        """Wait for all threads; those of the queue end by themselves."""
        for threads in (self.threads, self.room._threads.values()):
            for thread in list(threads):
                thread.join(300)
                assert not thread.is_alive()
        assert not self.room._threads
        assert not self.room._cores[0].locked()


@contextlib.contextmanager
def signals(handler: Callable[..., None], enough: threading.Event) -> Iterator[None]:
    """Send the main thread signals until there are enough; none comes after its handler is gone."""

    def send() -> None:
        while not enough.wait(0.01):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    sender, before = threading.Thread(target=send), signal.signal(signal.SIGUSR1, handler)
    sender.start()
    try:
        yield
    finally:
        enough.set()
        sender.join()
        signal.signal(signal.SIGUSR1, before)


def test_passes_of_several_callers_release_the_lock_earlier(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    room, session = callers.Room(), fastcnn.session(network("lenet5"), threads=1)
    monkeypatch.setattr(forward_pass, "room", room)
    queued: list[object] = []
    monkeypatch.setattr(room, "run", lambda work: (queued.append(work), work(conductor.ALONE)))
    x = samples(network("lenet5"), 8)
    assert session._inference is not None
    chosen = session._inference.choose(8)
    *_, time = chosen.segments(-(-8 // chosen.program.samples))
    assert forward_pass.SHORT < time < forward_pass.SHORT_ALONE
    expected = session.logits(x)
    assert not queued
    other = threading.Thread(target=session.logits, args=(x,))
    other.start()
    other.join()
    assert len(queued) == 1
    for _ in range(2 * callers.SEVERAL):
        assert np.array_equal(session.logits(x), expected)
    assert len(queued) == 1 + callers.SEVERAL


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs signals of threads")
def test_callers_who_find_no_core_wait_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """In order of arrival; one that fails, or is interrupted, does not block the others."""
    model = network("vgg_small")
    given = [samples(model, 9) + np.float32(n) for n in range(6)]
    expected = [fastcnn.session(model, threads=1).logits(x) for x in given]
    crowd, found = Crowd(monkeypatch), {}

    def ask(n: int) -> None:
        try:
            found[n] = crowd.session.logits(given[n])
        except RuntimeError:
            found[n] = None

    for n in range(5):
        crowd.start(partial(ask, n))
    interrupted = threading.Event()

    def stop(*_: object) -> None:
        if crowd.waits == 5 and not interrupted.is_set():
            interrupted.set()
            raise KeyboardInterrupt

    with signals(stop, interrupted), pytest.raises(KeyboardInterrupt):
        crowd.session.logits(given[5])
    assert [x is given[0] for x in crowd.begun] == [True]
    crowd.go_on.set()
    crowd.end()
    assert all(x is y for x, y in zip(crowd.begun, given, strict=True))
    assert found.pop(2) is None
    assert sorted(found) == [0, 1, 3, 4]
    assert all(np.array_equal(found[n], expected[n]) for n in found)
    assert np.array_equal(crowd.session.logits(given[2]), expected[2])


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs signals of threads")
def test_a_signals_handler_may_ask_while_its_thread_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    x = samples(network("vgg_small"), 9)
    expected = fastcnn.session(network("vgg_small"), threads=1).logits(x)
    crowd, found = Crowd(monkeypatch), []
    crowd.begun += [x] * 3  # none fails

    def ask() -> None:
        found.append(crowd.session.logits(x))

    def asks_again(*_: object) -> None:
        if crowd.waits == 1:
            crowd.go_on.set()
            ask()

    crowd.start(ask)
    with signals(asks_again, crowd.go_on):
        ask()
    crowd.end()
    assert len(found) == 3
    assert all(np.array_equal(each, expected) for each in found)


def test_a_caller_who_asks_again_does_not_wait_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler may call the session while its thread has the only core."""
    crowd, found = Crowd(monkeypatch), []
    crowd.go_on.set()
    x = samples(network("vgg_small"), 9)
    expected = crowd.session.logits(x)
    inner = forward_pass.Pass._run

    def run(self: forward_pass.Pass, *arguments: Any) -> None:
        if not found:
            found.append(None)
            found.append(crowd.session.logits(x))
        inner(self, *arguments)

    monkeypatch.setattr(forward_pass.Pass, "_run", run)
    crowd.begun += [x] * 3
    crowd.start(lambda: found.append(crowd.session.logits(x)))
    crowd.end()
    assert all(np.array_equal(each, expected) for each in found[1:])
    assert len(found) == 3
    assert not crowd.waits


def test_without_more_threads_callers_run_their_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    crowd = Crowd(monkeypatch)
    crowd.go_on.set()
    x = samples(network("vgg_small"), 9)
    expected = crowd.session.logits(x)

    def fails(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with crowd.room._cores[0]:
        monkeypatch.setattr(crowd.room, "_start_threads", fails)
        assert np.array_equal(crowd.session.logits(x), expected)
    assert not crowd.waits


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("count", [1, 9, 40])
def test_callers_who_find_the_cores_taken_run_alone(name: str, count: int) -> None:
    session = fastcnn.session(network(name), threads=2)
    x, inference = samples(network(name), count), session._inference
    assert inference is not None
    group = inference._group
    assert group is not None
    expected = session.logits(x)
    (memory,) = inference.choose(count)._idle
    segments = memory.counters[conductor.CURRENT]
    assert segments > 0  # the team's
    room = int(group.counters[conductor.ROOM])
    for others in (room, 0):
        group.counters[conductor.CALLERS] += others
        memory.counters[conductor.CURRENT] = 0
        assert np.array_equal(session.logits(x), expected)
        assert memory.counters[conductor.CURRENT] == (0 if others else segments)
        group.counters[conductor.CALLERS] -= others
    assert not group.counters[[conductor.CALLERS, conductor.TAKEN, conductor.INSIDE]].any()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_that_is_forked_while_locks_are_held() -> None:
    program = (
        "import os, signal, threading, numpy as np, fastcnn;"
        "from fastcnn import forks;"
        "from fastcnn.backends.lanes.session import forward_pass;"
        "model = fastcnn.models.vgg_small(seed=0);"
        "x = np.zeros((9, 3, 32, 32), np.float32);"
        "session = fastcnn.session(model, threads=2);"
        "before = session.logits(x), model.logits(x);"
        "held, done = threading.Event(), threading.Event();"
        "locks = [*forks._locks, *forward_pass.room._cores];"
        "hold = lambda: [[lock.acquire() for lock in locks], held.set(), done.wait()];"
        "thread = threading.Thread(target=hold, daemon=True);"
        "thread.start();"
        "held.wait();"
        "child = os.fork();"
        "child and (os._exit(os.waitpid(child, 0)[1] != 0));"
        "signal.alarm(250);"
        "same = np.array_equal(session.logits(x), before[0]);"
        "same &= np.array_equal(model.logits(x), before[1]);"
        "session.logits(x[:1]);"
        "fastcnn.session(fastcnn.models.lenet5(seed=0), threads=2);"
        "os._exit(0 if same else 3)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)


def test_a_session_can_be_sent_to_another_process() -> None:
    model = network("resnet8")
    session, x = fastcnn.session(model, max_batch=20, threads=1), samples(model, 3)
    received = pickle.loads(pickle.dumps(session))
    assert (received.logits(x) == session.logits(x)).all()
    assert (received.max_batch, received.threads) == (20, 1)
