# SPDX-License-Identifier: Apache-2.0
"""Small tasks of many kinds, trained in seconds.

In: bundled and synthetic data.  Out: ``TASKS`` by name.
"""

from __future__ import annotations

from . import control, pictures, restored, sequences, signals, steps, tabular
from .base import Task

TASKS: dict[str, Task] = {
    task.name: task
    for part in (tabular, pictures, restored, sequences, steps, signals, control)
    for task in part.TASKS
}
