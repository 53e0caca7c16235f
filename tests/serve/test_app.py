# SPDX-License-Identifier: Apache-2.0
"""The application without a network: what a client does that no library does.

In: requests whose body does not come.  Out: refusals.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from neuralmatrix.serve.batching import Limits
from neuralmatrix.serve.protocol import RequestRefused

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")


def test_a_body_that_does_not_come_in_time() -> None:
    from neuralmatrix.serve.app import Server
    from starlette.requests import Request

    async def never() -> Any:
        await asyncio.sleep(60)

    scope = {"type": "http", "method": "POST", "headers": [(b"content-length", b"10")]}
    server = Server([], Limits(read_s=0.05), together=False)
    with pytest.raises(RequestRefused, match=r"did not arrive in 0.05 s") as caught:
        asyncio.run(server._body(Request(scope, never)))
    assert caught.value.status == 408


def test_a_body_that_grows_beyond_what_it_said() -> None:
    from neuralmatrix.serve.app import Server
    from starlette.requests import Request

    async def more() -> Any:
        return {"type": "http.request", "body": b"x" * 60, "more_body": True}

    server = Server([], Limits(max_bytes=100), together=False)
    with pytest.raises(RequestRefused, match="over 100 bytes") as caught:
        asyncio.run(server._body(Request({"type": "http", "headers": []}, more)))
    assert caught.value.status == 413
