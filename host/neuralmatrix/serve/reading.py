# SPDX-License-Identifier: Apache-2.0
"""How connections are read: uvicorn's own protocol, less eager to stop.

In: uvicorn.  Out: ``PatientProtocol``.
uvicorn stops reading whenever 64 KiB of a body wait for the application, which costs a turn of
the loop and two system calls each: near a millisecond for one image of 224 x 224.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl

MOST_HELD = 1 << 20  # bytes of a body that may wait in one connection


class _Patient(FlowControl):
    def __init__(self, transport: asyncio.Transport, protocol: Any) -> None:
        super().__init__(transport)
        self._protocol = protocol

    def pause_reading(self) -> None:
        """Stop, unless it is for a body of moderate length: pipelined requests must wait."""
        held = len(getattr(self._protocol.cycle, "body", b""))
        if not HIGH_WATER_LIMIT < held <= MOST_HELD:
            super().pause_reading()


class PatientProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """The parser that uvicorn finds: httptools, or else h11."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.flow = _Patient(transport, self)
