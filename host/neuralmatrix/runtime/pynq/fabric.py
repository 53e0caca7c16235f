# SPDX-License-Identifier: Apache-2.0
"""The overlay that is on the board: loaded, checked, shared by all sessions of the process.

In: an ``Overlay`` folder.  Out: ``Loaded``, whose kernels passed their checks.
All of it runs on the board's thread.
"""

from __future__ import annotations

import os
import time
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pynq

from ...errors import (
    DeviceFault,
    DeviceTimeout,
    NeuralMatrixError,
    OverlayMissing,
    ToolMissing,
    WrongClock,
    WrongOverlay,
)
from ...hardware import overlay_folder
from ...program.program import Program
from .. import selftest
from ..device import How, Origin, lacking
from . import board_lock
from .buffers import Buffers
from .kernels import EMPTY, Job, Kernels, job_of

EMULATED = "emulated"


@dataclass(eq=False)
class Loaded:
    """An overlay on the board that passed its checks."""

    source: overlay_folder.Overlay
    overlay: Any  # pynq.Overlay
    kernels: Kernels
    clock_mhz: float
    origin: Origin
    # The program whose memory is in use; a weak reference, so that a dropped session frees its
    # memory.
    _pointed: weakref.ref[Buffers] | None = None

    def point_at(self, program: Program, buffers: Buffers) -> None:
        """Give the kernels the addresses of a program's memory unless they have them."""
        if self._pointed is None or self._pointed() is not buffers:
            self.kernels.point_at(program, buffers)
            self._pointed = weakref.ref(buffers)

    @property
    def is_current(self) -> bool:
        """Return whether nothing else was loaded since, by this package or another."""
        device = self.overlay.device
        return device is pynq.Device.active_device and bool(self.overlay.is_loaded())


@dataclass
class _Fabric:
    """The state of the board as far as this process knows it."""

    loaded: Loaded | None = None
    # Memory that a kernel may still write into, because the fabric could not be loaded again.
    lost: list[Buffers] = field(default_factory=list)

    def forget(self) -> None:
        """Forget the state, as another process may have changed it."""
        self.loaded = None


_FABRIC = _Fabric()  # one board, one fabric: sessions of a process share it
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_FABRIC.forget)


def _device() -> Any:
    """Return pynq's device, without its warning that there is none, as an error follows."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No devices found")
        return pynq.Device.active_device


def has_device() -> bool:
    """Return whether pynq sees a board."""
    try:
        return _device() is not None
    except RuntimeError:
        return False


def active_device() -> Any:
    """Return pynq's device.  ToolMissing: this machine is no board."""
    try:
        return _device()
    except RuntimeError as error:
        raise ToolMissing(
            f"device='pynq' needs a board: pynq found none on this machine ({error}); run on a "
            "board with a PYNQ image, use device='emulation', or set "
            f"{overlay_folder.EMULATED_VARIABLE}=pynq-z2 for an emulated board below pynq"
        ) from None


def origin_of(source: overlay_folder.Overlay) -> Origin:
    """Return "board" only if neither the overlay nor pynq's device is emulated."""
    emulated = getattr(active_device(), EMULATED, False) or source.info.origin == EMULATED
    return "emulated board" if emulated else "board"


def acquire(source: overlay_folder.Overlay, timeout_s: float | None) -> Loaded:
    """Return the overlay, loaded unless it is on the board already."""
    loaded = _FABRIC.loaded
    if loaded is not None and loaded.is_current and loaded.source == source:
        return loaded
    _FABRIC.loaded = None
    _FABRIC.loaded = _load(source, timeout_s)
    return _FABRIC.loaded


def is_loaded(loaded: Loaded) -> bool:
    """Return whether ``loaded`` may be used as it is."""
    return _FABRIC.loaded is loaded and loaded.is_current


def lock_file() -> Path | None:
    """Return the lock file of a board; an emulated board is in this process only."""
    return None if getattr(active_device(), EMULATED, False) else board_lock.LOCK


@contextmanager
def alone() -> Iterator[None]:
    """Lock the board; forget its state if another process has used it."""
    with board_lock.turn(lock_file()) as undisturbed:
        if not undisturbed:
            _FABRIC.forget()
        yield


@contextmanager
def reloaded_on_error(loaded: Loaded, buffers: Buffers | None) -> Iterator[None]:
    """Load the fabric again after an error, and free the memory only then: a kernel that hangs
    could still write into it."""
    try:
        yield
    except BaseException as first:
        _FABRIC.forget()
        try:
            loaded.overlay.download()
        except Exception as error:
            if buffers is not None:
                _FABRIC.lost.append(buffers)
            raise DeviceFault(
                f"after a failed run the overlay could not be loaded again ({error}); the run's "
                "memory is kept, because the array may still write into it: restart the board.  "
                f"The run failed with {type(first).__name__}: {first}"
            ) from error
        if buffers is not None:
            buffers.free()
        raise


# ------------------------------------------------------------------------------ loading


def _load(source: overlay_folder.Overlay, timeout_s: float | None) -> Loaded:
    """Download and check.  WrongClock, WrongOverlay, DeviceFault, DeviceTimeout, OverlayMissing."""
    overlay_folder.check_files(source)
    test = selftest.read(source.folder)
    overlay = _download(source)
    while _FABRIC.lost:  # no kernel is left that could write into it
        _FABRIC.lost.pop().free()
    clock_mhz = _checked_clock(source)
    loaded = Loaded(source, overlay, Kernels(overlay), clock_mhz, origin_of(source))
    _check_fingerprint(loaded, timeout_s)
    _run_selftest(loaded, test, timeout_s)
    return loaded


def _download(source: overlay_folder.Overlay) -> Any:
    from . import ip_drivers  # noqa: F401  # binds the kernels' drivers

    try:
        return pynq.Overlay(str(source.bit))
    except ImportError as error:
        raise ToolMissing(lacking(error)) from error
    except PermissionError as error:
        raise NeuralMatrixError(
            f"{source.bit}: the system refused to load it ({error}); pynq works as root: use "
            "sudo -E, or a notebook of the board's own Jupyter server"
        ) from error
    except Exception as error:  # errors of pynq's parsers on damaged files
        raise OverlayMissing(
            f"{source.bit}: pynq {pynq.__version__} could not load it ({error}); copy the overlay "
            f"again, or build it: {overlay_folder.build_command(source.info.name)}"
        ) from error


def _checked_clock(source: overlay_folder.Overlay) -> float:
    """Read the fabric's clock from the board's registers and check it."""
    found, closed = float(pynq.Clocks.fclk0_mhz), source.info.clock_mhz
    if found > closed * overlay_folder.CLOCK_TOLERANCE:
        raise WrongClock(
            f"the fabric's clock is {found:.3f} MHz, the overlay's timing is met up to "
            f"{closed:.3f} MHz; this image's PLL has no dividers for that.  Build the overlay for "
            "a possible clock (clock_mhz of the board file), or use the image it was built for"
        )
    return found


def _check_fingerprint(loaded: Loaded, timeout_s: float | None) -> None:
    """Check the fingerprint by a run of no instructions, which accesses no memory."""
    wanted = loaded.source.info.fingerprint
    with reloaded_on_error(loaded, None):
        loaded.kernels.point_at(None, None)
        run(loaded, EMPTY, "poll", timeout_s)
        found = loaded.kernels.fingerprint
        if found != wanted:
            raise WrongOverlay(
                f"{loaded.source.bit}: the array on the board says {found}, "
                f"{overlay_folder.INFO} says {wanted}; the files do not belong together: copy the "
                "overlay's folder again"
            )


def _run_selftest(loaded: Loaded, test: selftest.SelfTest, timeout_s: float | None) -> None:
    program, job = test.program, job_of(test.program)
    overlay_folder.check_array(loaded.source, program.board, program.array.fingerprint)
    buffers = Buffers(program, program.arena_bytes)
    with reloaded_on_error(loaded, buffers):
        loaded.kernels.point_at(program, buffers)
        buffers.write([(0, test.before)])
        try:
            run(loaded, job, "poll", timeout_s)
        except DeviceTimeout as error:
            raise DeviceTimeout(f"during the self-test {error}") from None
        loaded.kernels.counters(job)
        (arena,) = buffers.read([(0, program.arena_bytes)])
        selftest.check(test, np.asarray(arena))
    buffers.free()


# ------------------------------------------------------------------------------ running


def run(loaded: Loaded, job: Job, how: How, timeout_s: float | None) -> float:
    """Start the kernels on their memory and wait; return the seconds between."""
    began = time.perf_counter()
    kernels, clock = loaded.kernels, loaded.clock_mhz
    kernels.start()
    kernels.wait(how, job.seconds(clock), timeout_s or job.timeout(clock))
    return time.perf_counter() - began
