# SPDX-License-Identifier: Apache-2.0
"""The server as a process, judged by Triton's client and by raw bytes.

In: a program that copies its input, served by the command line on a free port.  Out: its answers to
good and bad requests, to clients that go away, and at its end.
"""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import neuralmatrix as nm
import numpy as np
import pytest
from neuralmatrix.ir.types import Array
from programs import copy_program

pytest.importorskip("uvicorn")
pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")

pytestmark = [pytest.mark.gxx, pytest.mark.slow]
PROGRAM = copy_program()
SHAPE = PROGRAM.inputs[0].shape


WITHOUT_HTTPTOOLS = (
    "import sys; sys.modules['httptools'] = None; from neuralmatrix.__main__ import main; main()"
)
MODULE, AS_ON_A_BOARD = ("-m", "neuralmatrix"), ("-c", WITHOUT_HTTPTOOLS)


@contextmanager
def serving(
    folder: Path, *options: str, start: tuple[str, str] = MODULE
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Serve the program as ``copy``; yield the process and its port."""
    file = folder / "copy.nmx"
    PROGRAM.save(file)
    command = [sys.executable, *start, "serve", str(file), "--port", "0", *options]
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, text=True, **both) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("copy: http://127.0.0.1:"), line
            port = int(line.split(":")[3].split("/")[0])
            yield process, port
        finally:
            process.kill()


@pytest.fixture(scope="module", params=[MODULE, AS_ON_A_BOARD], ids=["here", "as on a board"])
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a server, with uvicorn's own choice of a parser and with that of a board."""
    options = ["--max-mbytes", "1", "--threads", "1"]
    folder = tmp_path_factory.mktemp("serve")
    with serving(folder, *options, start=request.param) as (_, found):
        yield found


def images(count: int, seed: int = 0) -> Array:
    shape = (count, *SHAPE[1:])
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def ask(port: int, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    """Return status and JSON of one request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        data = json.dumps(body) if isinstance(body, dict) else body
        connection.request(method, path, data, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def infer_body(x: Array) -> dict[str, Any]:
    tensor = {"name": "x", "datatype": "FP32", "shape": list(x.shape), "data": x.tolist()}
    return {"inputs": [tensor]}


def works(port: int) -> bool:
    """Return whether the next request is answered rightly."""
    x = images(2)
    status, found = ask(port, "POST", "/v2/models/copy/infer", infer_body(x))
    wanted = nm.Session(PROGRAM, threads=1).run({"x": x})["y"]
    return status == 200 and bool(np.all(found["outputs"][0]["data"] == wanted.reshape(-1)))


def test_tritons_client_unmodified(port: int) -> None:
    triton = pytest.importorskip("tritonclient.http")
    client = triton.InferenceServerClient(f"127.0.0.1:{port}")
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("copy")
    assert client.get_server_metadata()["name"] == "neuralmatrix"
    meta = client.get_model_metadata("copy", "1")
    assert meta["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, *SHAPE[1:]]}]
    assert client.get_model_config("copy")["max_batch_size"] == 32
    assert client.get_model_repository_index()[0]["state"] == "READY"
    x = images(3)
    wanted = nm.Session(PROGRAM, threads=1).run({"x": x})["y"]
    for binary in (True, False):
        given = triton.InferInput("x", list(x.shape), "FP32")
        given.set_data_from_numpy(x, binary_data=binary)
        outputs = [triton.InferRequestedOutput("y", binary_data=binary)]
        found = client.infer("copy", [given], outputs=outputs, request_id="r")
        np.testing.assert_array_equal(found.as_numpy("y"), wanted)
        assert found.get_response()["id"] == "r"
    with pytest.raises(Exception, match="found model 'other'"):
        client.infer("other", [given])


@pytest.mark.parametrize(
    "method, path, body, status, words",
    [
        ("GET", "/v3", None, 404, "Not Found"),
        ("POST", "/v2/health/live", None, 405, "Method Not Allowed"),
        ("GET", "/v2/models/copy/versions/2", None, 404, "allowed are 'copy', version '1'"),
        ("POST", "/v2/models/copy/infer", "no", 400, "no JSON"),
        ("POST", "/v2/models/other/infer", {"inputs": []}, 404, "found model 'other'"),
        ("POST", "/v2/models/copy/infer", {"inputs": []}, 400, "allowed is exactly"),
        ("POST", "/v2/models/copy/infer", "x" * 1_100_000, 413, "--max-mbytes"),
    ],
)
def test_bad_requests(
    port: int, method: str, path: str, body: Any, status: int, words: str
) -> None:
    found, answer = ask(port, method, path, body)
    assert found == status and words in answer["error"] and works(port)


@pytest.mark.parametrize(
    "headers, status, words",
    [
        ({"Content-Encoding": "gzip"}, 415, "uncompressed"),
        ({"Inference-Header-Content-Length": "-1"}, 400, "allowed is a number"),
        ({"Inference-Header-Content-Length": "9" * 18}, 400, "at most the body's length"),
    ],
)
def test_bad_headers(port: int, headers: dict[str, str], status: int, words: str) -> None:
    found, answer = ask(port, "POST", "/v2/models/copy/infer", infer_body(images(1)), **headers)
    assert found == status and words in answer["error"] and works(port)


def test_values_that_no_run_takes(port: int) -> None:
    body = infer_body(images(1))
    body["inputs"][0]["data"] = [float("nan")] * images(1).size
    status, answer = ask(port, "POST", "/v2/models/copy/infer", body)
    assert status == 400 and "found NaN" in answer["error"] and works(port)


def test_clients_that_stop_in_mid_request(port: int) -> None:
    for text in (
        b"POST /v2/models/copy/infer HTTP/1.1\r\nContent-Length: 900\r\n\r\n{",
        b"\x00\xff",
    ):
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", port), 10) as client:
                client.sendall(text)
    assert works(port)
    status, _ = ask(port, "GET", "/v2/health/ready")
    assert status == 200


def test_an_answer_says_how_long_its_run_took(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/v2/models/copy/infer", json.dumps(infer_body(images(1))))
    response = connection.getresponse()
    name, _, value = response.headers["Server-Timing"].partition(";dur=")
    connection.close()
    assert name == "run" and 0 < float(value) < 30_000


def test_a_full_queue_refuses_and_goes_on(tmp_path: Path) -> None:
    statuses: list[int] = []
    texts: list[str] = []
    many = infer_body(images(40))

    def client(port: int) -> None:
        for _ in range(5):
            status, found = ask(port, "POST", "/v2/models/copy/infer", many)
            statuses.append(status)
            texts.append(found.get("error", ""))

    with serving(tmp_path, "--max-queue", "50", "--threads", "1") as (_, port):
        threads = [threading.Thread(target=client, args=(port,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert works(port)
    assert set(statuses) == {200, 503} and len(statuses) == 40
    assert all("inputs wait already, of at most 50" in t for t in texts if t)


def held(process: subprocess.Popen[str]) -> tuple[int, int, int]:
    """Return a process's open files, its threads and its memory in MiB."""
    root = Path(f"/proc/{process.pid}")
    rows = dict(line.split(":", 1) for line in (root / "status").read_text().splitlines())
    memory = int(rows["VmRSS"].split()[0]) >> 10
    return len(list((root / "fd").iterdir())), int(rows["Threads"]), memory


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc")
def test_nothing_leaks(tmp_path: Path) -> None:
    """Rounds of bad requests and of clients that go away leave files, threads and memory alone."""

    def round_of_bad(port: int) -> None:
        begun = (
            b"POST /v2/models/copy/infer HTTP/1.1\r\nContent-Length: 90000\r\n\r\n" + b"x" * 60000
        )
        for text in (begun, b"\x00\xff\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", port), 10) as client:
                client.sendall(text)
        for body in ("no", "x" * 1_100_000, {"inputs": []}, infer_body(images(1))):
            ask(port, "POST", "/v2/models/copy/infer", body)
        ask(port, "POST", "/v2/models/other/infer", {})

    with serving(tmp_path, "--max-mbytes", "1", "--threads", "1") as (process, port):
        for _ in range(20):
            round_of_bad(port)
        files, threads, memory = held(process)
        for _ in range(60):
            round_of_bad(port)
        assert works(port)
        time.sleep(0.2)  # in which closed connections are noticed
        after = held(process)
    assert after[0] <= files + 2 and after[1] <= threads and after[2] <= memory + 8


def test_many_clients_each_get_their_own_answer(port: int) -> None:
    x = images(64)
    wanted = nm.Session(PROGRAM, threads=1).run({"x": x})["y"]
    wrong: list[int] = []

    def client(k: int) -> None:
        for i in range(k, 64, 16):
            status, found = ask(port, "POST", "/v2/models/copy/infer", infer_body(x[i : i + 1]))
            if status != 200 or np.any(found["outputs"][0]["data"] != wanted[i].reshape(-1)):
                wrong.append(i)

    threads = [threading.Thread(target=client, args=(k,)) for k in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong


def test_metrics_are_prometheus(port: int) -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    assert works(port)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    samples = {
        (s.name, s.labels.get("status")): s.value
        for family in parser.text_string_to_metric_families(text)
        for s in family.samples
    }
    assert samples["neuralmatrix_requests_total", "200"] >= 1
    assert samples["neuralmatrix_queue_inputs", None] == 0
    assert samples["neuralmatrix_batch_inputs_sum", None] >= 2


def test_its_end_under_load_answers_or_refuses(tmp_path: Path) -> None:
    statuses: list[int] = []
    with serving(tmp_path, "--threads", "1") as (process, port):
        stop = threading.Event()

        def client() -> None:
            while not stop.is_set():
                try:
                    statuses.append(
                        ask(port, "POST", "/v2/models/copy/infer", infer_body(images(1)))[0]
                    )
                except OSError:  # nobody listens any more
                    return

        threads = [threading.Thread(target=client) for _ in range(8)]
        for thread in threads:
            thread.start()
        while len(statuses) < 20:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        stop.set()
        for thread in threads:
            thread.join(30)
    assert set(statuses) <= {200, 503} and statuses.count(200) >= 20


def test_a_taken_port_and_two_programs_of_one_name(port: int, tmp_path: Path) -> None:
    file = tmp_path / "copy.nmx"
    PROGRAM.save(file)
    command = [sys.executable, "-m", "neuralmatrix", "serve", str(file)]
    for more, words in (
        (["--port", str(port)], "choose a free --port"),
        ([str(file), "--port", "0"], "found 'copy' twice"),
        ([f"a b={file}", "--port", "0"], "found 'a b' as a name"),
    ):
        done = subprocess.run([*command, *more], capture_output=True, text=True, timeout=60)
        assert done.returncode == 1 and words in " ".join(done.stderr.split())
