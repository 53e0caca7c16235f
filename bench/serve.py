# SPDX-License-Identifier: Apache-2.0
"""The server against a session: answers, throughput and added latency, in one run.

In: ViT-tiny with random weights, asked for one image at a time, and the data folder's ResNet-8,
asked for 32.  Out: wrong and lost answers of 32 clients, their throughput as a share of a session's
on the same images, and what a request takes beyond the run itself where nobody else asks.  Clients
are threads of this process, the server is another one.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from common import BOARD, TASKS, Array, Row, calibration, compile_for, report

CLIENTS = 32
ALONE = 100  # requests one after the other
LEAST_SHARE, MOST_ADDED_MS = 0.8, 2.0


@contextmanager
def serving(file: Path) -> Iterator[int]:
    """Serve a program on a free port."""
    command = [sys.executable, "-m", "neuralmatrix", "serve", f"net={file}", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline().split(":")[3].split("/")[0])
        finally:
            process.terminate()


def body_of(name: str, x: Array) -> tuple[bytes, dict[str, str]]:
    """Return a request with binary tensors, and its header."""
    tensor = {"name": name, "datatype": "FP32", "shape": list(x.shape),
              "parameters": {"binary_data_size": x.nbytes}}  # fmt: skip
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return text + x.tobytes(), {"Inference-Header-Content-Length": str(len(text))}


class Client:
    """One connection that asks again and again."""

    def __init__(self, port: int, name: str) -> None:
        self._name = name
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)

    def ask(self, x: Array) -> Array:
        """Return the only output, flat."""
        self._connection.request("POST", "/v2/models/net/infer", *body_of(self._name, x))
        response = self._connection.getresponse()
        answer = response.read()
        assert response.status == 200, answer[:200]
        return np.frombuffer(answer[int(response.headers["Inference-Header-Content-Length"]) :],
                             np.float32)  # fmt: skip


def asked(port: int, name: str, x: Array, size: int, wanted: Array) -> tuple[int, float]:
    """Return how many answers of ``CLIENTS`` clients are wrong or lost, and images per second."""
    starts = list(range(0, len(x), size))
    wrong = len(starts)
    lock = threading.Lock()

    def client() -> None:
        nonlocal wrong
        mine = Client(port, name)
        while True:
            with lock:
                if not starts:
                    return
                i = starts.pop()
            found = mine.ask(x[i : i + size])
            with lock:
                wrong -= bool(np.array_equal(found, wanted[i : i + size].reshape(-1)))

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    images = size * len(starts)
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wrong, images / (time.perf_counter() - began)


def exchanged(connection: socket.socket, request: bytes) -> dict[str, str]:
    """Send a request and read its answer whole; return the headers.  A Python client's own work
    on them is no part of what the server adds."""
    connection.sendall(request)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(1 << 18)
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:])}
    left = int(headers["content-length"]) - len(body)
    while left:
        left -= len(connection.recv(left))
    return headers


def added_ms(port: int, name: str, x: Array) -> float:
    """Return the median of what a request takes beyond its run, which the answer states, where
    nobody else asks."""
    body, headers = body_of(name, x)
    headers |= {"Host": "127.0.0.1", "Content-Length": str(len(body))}
    lines = ["POST /v2/models/net/infer HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
    request, found = "\r\n".join([*lines, "", ""]).encode() + body, []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for _ in range(ALONE):
            began = time.perf_counter()
            timing = exchanged(connection, request)["server-timing"]
            seconds = time.perf_counter() - began
            found.append(1e3 * seconds - float(timing.partition("dur=")[2]))
    return float(np.median(found))


def rows(title: str, program: Any, x: Array, size: int, rounds: int) -> list[Row]:
    """Compare the server with a session on the same images, round by round in turn, so that both
    see the same machine."""
    import neuralmatrix as nm

    (port_of,) = program.inputs
    session, wrong, shares = nm.Session(program), 0, []
    wanted = next(iter(session.run({port_of.name: x}).values()))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "net.nmx"
        program.save(file)
        with serving(file) as port:
            asked(port, port_of.name, x, size, wanted)
            for _ in range(rounds):
                began = time.perf_counter()
                session.run({port_of.name: x})
                alone = len(x) / (time.perf_counter() - began)
                bad, rate = asked(port, port_of.name, x, size, wanted)
                wrong, shares = wrong + bad, [*shares, rate / alone]
            added = added_ms(port, port_of.name, x[:size])
    return [
        Row(f"{title}: wrong or lost answers", wrong, "", "emulated", at_most=0),
        Row(f"{title}: throughput over a session's", float(np.median(shares)), "", "measured",
            at_least=LEAST_SHARE),
        Row(f"{title}: beyond the run itself", added, "ms", "measured", at_most=MOST_ADDED_MS),
    ]  # fmt: skip


def main() -> None:
    import neuralmatrix as nm
    from zoo_transformers import vit_tiny

    rng = np.random.default_rng(0)
    model = vit_tiny()
    name = model.graph.input[0].name
    x = rng.normal(size=(32, 3, 224, 224)).astype(np.float32)
    program = nm.compile(model, board=BOARD, calibration=[{name: x[:4]}], accuracy=False)
    report("serve", rows("ViT-tiny, one image a request", program, x, 1, 5))
    task = TASKS["resnet8"]()
    program = compile_for(task.path, task.input, task.x[:1].shape, calibration(task))
    images = np.ascontiguousarray(task.x[:1024], np.float32)
    report("serve", rows("ResNet-8, 32 images a request", program, images, 32, 9))


if __name__ == "__main__":
    main()
