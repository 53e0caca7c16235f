# SPDX-License-Identifier: Apache-2.0
"""The server's HTTP interface: health, metadata, inference, metrics.

In: ``Served`` programs, limits.  Out: a starlette application.
The addresses are those of the Open Inference Protocol, version 2, with what Triton's clients ask
for besides: the configuration of a model, and the index of the repository.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .._version import __version__
from ..errors import BadInput, DeviceTimeout
from ..program.program import Program
from .batching import Answer, Batcher, Limits, Outputs, Runner
from .metrics import Metrics
from .protocol import InferRequest, RequestRefused, Signature, answer, parse_request, signature_of

VERSION = "1"  # of every model: a program has no others
HEADER_LENGTH = "Inference-Header-Content-Length"
GONE = 499  # nobody reads this status: the client has closed the connection
Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Served:
    """A program under a name, with the session that runs it."""

    name: str
    program: Program
    run: Runner


class Server:
    """The programs of a server while it runs."""

    def __init__(self, served: Sequence[Served], limits: Limits, together: bool) -> None:
        """``together``: all programs share one device, so that one of them runs at a time."""
        self.limits = limits
        self.metrics = Metrics()
        self.ending = False
        self._served = {one.name: one for one in served}
        self._signatures = {one.name: signature_of(one.program) for one in served}
        self._batchers: dict[str, Batcher] = {}
        self._together = together
        self._loop: asyncio.AbstractEventLoop | None = None

    # ------------------------------------------------------------ life

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Start the workers, and wait for what runs at the end."""
        self._loop = asyncio.get_running_loop()
        count = 1 if self._together else len(self._served)
        pools = [ThreadPoolExecutor(1, "array") for _ in range(count)]
        for k, (name, one) in enumerate(self._served.items()):
            self._batchers[name] = Batcher(
                one.run,
                batches=self._signatures[name].batches,
                fixed=one.program.fixed_outputs,
                limits=self.limits,
                executor=pools[k % count],
                seen=self.metrics.batch_of(name),
            )
            self.metrics.watch_queue(name, self._batchers[name])
        try:
            yield
        finally:
            self.end()
            await asyncio.gather(*(batcher.ended() for batcher in self._batchers.values()))
            for pool in pools:
                pool.shutdown()

    def end(self) -> None:
        """Refuse new and waiting requests; those that run are answered."""
        self.ending = True
        for batcher in self._batchers.values():
            batcher.end()

    def end_soon(self, then: Callable[[], None], seconds: float) -> None:
        """End from a signal's handler, and call ``then`` after ``seconds``."""
        self.ending = True
        if self._loop is None:  # it has not begun
            then()
            return
        self._loop.call_soon_threadsafe(self.end)
        self._loop.call_soon_threadsafe(self._loop.call_later, seconds, then)

    # ------------------------------------------------------------ addresses

    def app(self) -> Starlette:
        """Return the application."""
        one = "/v2/models/{model}"
        gets: Mapping[str, Handler] = {
            "/v2": self._about,
            "/v2/health/live": self._live,
            "/v2/health/ready": self._ready,
            "/metrics": self._metrics,
            f"{one}/ready": self._model_ready,
            one: self._metadata,
            f"{one}/config": self._configuration,
        }
        posts: Mapping[str, Handler] = {
            f"{one}/infer": self._infer,
            "/v2/repository/index": self._index,
        }
        routes = [
            Route(version, handler, methods=[method])
            for method, table in (("POST", posts), ("GET", gets))  # requests above all, soon found
            for path, handler in table.items()
            for version in _with_version(path)
        ]
        handlers: Any = {HTTPException: _as_json, RequestRefused: _as_json, Exception: _as_fault}
        return Starlette(routes=routes, lifespan=self.lifespan, exception_handlers=handlers)

    def _of(self, request: Request) -> tuple[Served, Signature]:
        name = request.path_params["model"]
        version = request.path_params.get("version", VERSION)
        if name not in self._served or version != VERSION:
            known = ", ".join(repr(name) for name in self._served)
            raise RequestRefused(404, f"found model {name!r}, version {version!r}; allowed are "
                                 f"{known}, version {VERSION!r}")  # fmt: skip
        return self._served[name], self._signatures[name]

    async def _about(self, request: Request) -> Response:
        extensions = ["binary_tensor_data", "model_configuration", "model_repository"]
        about = {"name": "neuralmatrix", "version": __version__, "extensions": extensions}
        return JSONResponse(about)

    async def _live(self, request: Request) -> Response:
        return JSONResponse({"live": True})

    async def _ready(self, request: Request) -> Response:
        return JSONResponse({"ready": not self.ending}, 503 if self.ending else 200)

    async def _model_ready(self, request: Request) -> Response:
        served, _ = self._of(request)
        status = 503 if self.ending else 200
        return JSONResponse({"name": served.name, "ready": not self.ending}, status)

    async def _metadata(self, request: Request) -> Response:
        served, signature = self._of(request)
        return JSONResponse(
            {
                "name": served.name,
                "versions": [VERSION],
                "platform": "neuralmatrix",
                "inputs": [info.to_json() for info in signature.inputs],
                "outputs": [info.to_json() for info in signature.outputs],
            }
        )

    async def _configuration(self, request: Request) -> Response:
        served, signature = self._of(request)
        tensors = {
            key: [
                {"name": info.name, "data_type": f"TYPE_{info.datatype}",
                 "dims": list(info.shape[1:] if signature.batches else info.shape)}
                for info in infos
            ]
            for key, infos in (("input", signature.inputs), ("output", signature.outputs))
        }  # fmt: skip
        most = self.limits.max_batch if signature.batches else 0
        return JSONResponse(
            {"name": served.name, "platform": "neuralmatrix", "max_batch_size": most, **tensors}
        )

    async def _index(self, request: Request) -> Response:
        state = "UNAVAILABLE" if self.ending else "READY"
        return JSONResponse(
            [{"name": name, "version": VERSION, "state": state} for name in self._served]
        )

    async def _metrics(self, request: Request) -> Response:
        return Response(generate_latest(self.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    # ------------------------------------------------------------ inference

    async def _infer(self, request: Request) -> Response:
        served, signature = self._of(request)
        began = time.perf_counter()
        try:
            response = await self._inferred(request, served, signature)
        except RequestRefused as error:
            response = await _as_json(request, error)
        except ClientDisconnect:
            response = Response(status_code=GONE)
        except Exception as error:
            response = await _as_fault(request, error)
        took = time.perf_counter() - began
        self.metrics.request(served.name, response.status_code, took)
        return response

    async def _inferred(self, request: Request, served: Served, signature: Signature) -> Response:
        body = await self._body(request)
        asked = parse_request(body, _header_length(request), signature)
        batcher = self._batchers[served.name]
        try:  # the run checks the values, in its own thread
            found = await self._unless_gone(request, batcher, asked.feeds, asked.count)
        except BadInput as error:
            raise RequestRefused(400, str(error)) from None
        response = self._answered(served.name, asked, found.outputs)
        response.headers["Server-Timing"] = f"run;dur={1e3 * found.run_s:.3f}"  # ms
        return response

    async def _body(self, request: Request) -> bytes:
        """Return a request's body, if it is no longer than allowed and arrives in time."""
        most, encoding = self.limits.max_bytes, request.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise RequestRefused(415, f"found content encoding {encoding!r}; send it uncompressed")
        late = asyncio.Event()  # wait_for would take a task and a turn of the loop more
        task = asyncio.current_task()
        assert task is not None
        timer = asyncio.get_running_loop().call_later(self.limits.read_s, _stop, task, late)
        try:
            return await _read(request, most)
        except asyncio.CancelledError:
            if not late.is_set():
                raise
            raise RequestRefused(
                408, f"the request did not arrive in {self.limits.read_s:g} s; send it again"
            ) from None
        finally:
            timer.cancel()

    async def _unless_gone(
        self, request: Request, batcher: Batcher, feeds: Any, count: int
    ) -> Answer:
        """Return the answer; a client that goes away takes its request out of the queue."""
        found = batcher.submit(feeds, count)
        gone = asyncio.ensure_future(_disconnected(request))
        gone.add_done_callback(lambda _: found.cancel())
        try:
            return await found
        except asyncio.CancelledError:
            if found.cancelled() and gone.done() and not gone.cancelled():
                raise ClientDisconnect from None
            raise
        finally:
            gone.cancel()

    def _answered(self, name: str, asked: InferRequest, outputs: Outputs) -> Response:
        body, json_length = answer(name, VERSION, asked, outputs)
        if json_length is None:
            return Response(body, media_type="application/json")
        headers = {HEADER_LENGTH: str(json_length)}
        return Response(body, headers=headers, media_type="application/octet-stream")


def _with_version(path: str) -> list[str]:
    """Return the address without and with the version of the model."""
    if "{model}" not in path:
        return [path]
    return [path, path.replace("{model}", "{model}/versions/{version}")]


def _stop(task: asyncio.Task[Any], late: asyncio.Event) -> None:
    late.set()
    task.cancel()


async def _read(request: Request, most: int) -> bytes:
    said = request.headers.get("content-length", "")
    parts, size = [], 0
    too_long = int(said) > most if said.isdigit() and len(said) < 20 else bool(said)
    if not too_long:
        async for part in request.stream():
            parts.append(part)
            size += len(part)
            too_long = size > most
            if too_long:
                break
    if too_long:
        raise RequestRefused(
            413, f"found a request of over {most:,} bytes; send fewer inputs at once, or start "
            "the server with a higher --max-mbytes"
        )  # fmt: skip
    return b"".join(parts)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _header_length(request: Request) -> int | None:
    text = request.headers.get(HEADER_LENGTH)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise RequestRefused(400, f"{HEADER_LENGTH}: found {text[:60]!r}; allowed is a number")
    return int(text)


async def _as_json(request: Request, error: Any) -> Response:
    """Return the answer to a request that is refused, also by starlette."""
    is_ours = isinstance(error, RequestRefused)
    status = error.status if is_ours else error.status_code
    text = str(error) if is_ours else f"{error.detail}: {request.method} {request.url.path}"
    headers = {"Retry-After": "1", "Connection": "close"} if status == 503 else None
    return Response(json.dumps({"error": text}), status, headers, "application/json")


async def _as_fault(request: Request, error: Any) -> Response:
    """Return the answer where running failed."""
    status = 504 if isinstance(error, DeviceTimeout) else 500
    return JSONResponse({"error": f"{type(error).__name__}: {error}"}, status)
