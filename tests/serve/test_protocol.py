# SPDX-License-Identifier: Apache-2.0
"""Requests and answers of the Open Inference Protocol.

In: bodies, right and wrong.  Out: feeds and outputs; one clear refusal each.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from neuralmatrix.serve.protocol import (
    ANY,
    DATATYPES,
    InferRequest,
    RequestRefused,
    Signature,
    TensorInfo,
    answer,
    parse_request,
    signature_of,
)
from programs import copy_program

SIGNATURE = Signature(
    (TensorInfo("x", "FP32", (ANY, 2)), TensorInfo("ids", "INT64", (ANY, 3))),
    (TensorInfo("y", "FP32", (ANY, 2)), TensorInfo("z", "INT64", (ANY,))),
    True,
)
X = {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1, 2.5, -3, 4]}
IDS = {"name": "ids", "datatype": "INT64", "shape": [2, 3], "data": [[1, 2, 3], [4, 5, 6]]}


def parsed(header: Any, rest: bytes = b"") -> InferRequest:
    text = json.dumps(header).encode()
    return parse_request(text + rest, len(text) if rest else None, SIGNATURE)


def test_lists_flat_and_nested() -> None:
    found = parsed({"inputs": [X, IDS], "id": "a"})
    np.testing.assert_array_equal(found.feeds["x"], np.float32([[1, 2.5], [-3, 4]]))
    np.testing.assert_array_equal(found.feeds["ids"], [[1, 2, 3], [4, 5, 6]])
    assert found.id == "a" and found.outputs == (("y", False), ("z", False))
    assert found.feeds["x"].dtype == np.float32 and found.feeds["ids"].dtype == np.int64


def test_bytes_behind_the_header_in_the_order_of_the_inputs() -> None:
    x, ids = np.float32([[1, 2]]), np.int64([[7, 8, 9]])
    inputs = [
        {**like, "shape": list(a.shape), "parameters": {"binary_data_size": a.nbytes}}
        for like, a in (
            ({"name": "ids", "datatype": "INT64"}, ids),
            ({"name": "x", "datatype": "FP32"}, x),
        )
    ]
    wanted = [{"name": "z", "parameters": {"binary_data": True}}, {"name": "y"}]
    found = parsed({"inputs": inputs, "outputs": wanted}, ids.tobytes() + x.tobytes())
    np.testing.assert_array_equal(found.feeds["x"], x)
    np.testing.assert_array_equal(found.feeds["ids"], ids)
    assert found.outputs == (("z", True), ("y", False))


@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_comes_back(datatype: str) -> None:
    values = np.array([0, 1, 1], DATATYPES[datatype])
    info = TensorInfo("x", datatype, (3,))
    signature = Signature((info,), (info,), False)
    for binary in (False, True):
        request = InferRequest("7", {}, (("x", binary),), 1)
        body, length = answer("net", "1", request, {"x": values})
        header = json.loads(body[:length])
        assert header["id"] == "7" and header["model_name"] == "net"
        given = json.dumps({"inputs": header["outputs"]}).encode()
        rest = b"" if length is None else body[length:]
        found = parse_request(given + rest, len(given), signature).feeds["x"]
        np.testing.assert_array_equal(found, values)
        assert found.dtype == values.dtype


def changed(**what: Any) -> dict[str, Any]:
    return {"inputs": [{**X, **what}, IDS]}


@pytest.mark.parametrize(
    "header, words",
    [
        ([], "the request: found .* allowed is a JSON object"),
        ({"inputs": 3}, "inputs: found 3; allowed is a list"),
        ({"inputs": [3]}, "an element of inputs: found 3"),
        ({"inputs": [{"name": 3}]}, "found the name 3; allowed is a string"),
        (changed(name="q"), "found input 'q'; allowed are 'x', 'ids'"),
        ({"inputs": [X, X]}, "'x' occurs twice"),
        ({"inputs": [X]}, "found no input 'ids'; allowed is exactly 'x', 'ids'"),
        (changed(shape=[1, 2], data=[1, 2]), "different numbers of inputs {'x': 1, 'ids': 2}"),
        (changed(datatype="FP64"), "found datatype 'FP64'; allowed is 'FP32'"),
        (changed(shape=[4]), r"found shape \[4\]; allowed is \[-1, 2\], -1 for any size"),
        (changed(shape=[0, 2], data=[]), r"found shape \[0, 2\]"),
        (changed(shape=[2, -2]), r"found shape \[2, -2\]"),
        (changed(shape=[2.0, 2]), "found shape"),
        (changed(shape="no"), "found shape 'no'"),
        (changed(shape=[1 << 62, 2]), "found 4 values for shape"),
        (changed(data=[1, 2, 3]), r"found 3 values for shape \[2, 2\]; it has 4"),
        (changed(data=[[1, 2], [3]]), "found data that are no FP32"),
        (changed(data=["1", "2", "3", "4"]), "found data that are no FP32"),
        (changed(data=[None] * 4), "found data that are no FP32"),
        (changed(data="1234"), "found no data; give a list"),
        ({"inputs": [X, {**IDS, "data": [1.5] * 6}]}, "found data that are no INT64"),
        ({"inputs": [X, {**IDS, "data": [1 << 70] * 6}]}, "found data that are no INT64"),
        (changed(parameters={"shared_memory_region": "a"}), "found a tensor in shared memory"),
        (changed(parameters={"binary_data_size": 4}), "found binary_data_size 4; .* the 0 bytes"),
        (changed(parameters=[1]), "parameters: found"),
        ({"inputs": [X, IDS], "outputs": [{"name": "x"}]}, "'x'; allowed are 'y', 'z'"),
        ({"inputs": [X, IDS], "id": 3}, "id: found 3"),
        ({"inputs": [X, IDS], "parameters": {"binary_data_output": 1}}, "true and false"),
        (
            {"inputs": [X, IDS], "outputs": [{"name": "y", "parameters": {"classification": 3}}]},
            "found classification",
        ),
    ],
)  # fmt: skip
def test_a_wrong_request_is_refused_in_words(header: Any, words: str) -> None:
    with pytest.raises(RequestRefused, match=words) as caught:
        parsed(header)
    assert caught.value.status == 400


@pytest.mark.parametrize("body, length, words", [
    (b"{", None, "no JSON"), (b"\xff\xfe", None, "no JSON"), (b"[" * 200_000, None, "nested too"),
    (b"{}", 3, "found 3; allowed is at most the body's length, 2"),
    (b'{"inputs": []}1234', 14, "found 4 bytes behind the JSON object; the inputs name 0"),
])  # fmt: skip
def test_a_wrong_body_is_refused_in_words(body: bytes, length: int | None, words: str) -> None:
    with pytest.raises(RequestRefused, match=words):
        parse_request(body, length, SIGNATURE)


def test_a_binary_size_that_is_no_multiple_or_reaches_too_far() -> None:
    for size, rest in ((3, b"123"), (8, b"1234"), (-4, b"1234"), (True, b"1")):
        with pytest.raises(RequestRefused, match="found binary_data_size"):
            parsed({"inputs": [{**X, "parameters": {"binary_data_size": size}}]}, rest)


def test_the_signature_of_a_program() -> None:
    program = copy_program()
    (x,), (y,) = program.inputs, program.outputs
    found = signature_of(program)
    assert found.batches and found.inputs == (TensorInfo("x", "FP32", (ANY, *x.shape[1:])),)
    assert found.outputs == (TensorInfo("y", "FP32", (ANY, *y.shape[1:])),)
