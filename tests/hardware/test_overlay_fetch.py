# SPDX-License-Identifier: Apache-2.0
"""Where overlays are fetched from: files, and https with a server on this machine."""

from __future__ import annotations

import hashlib
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from neuralmatrix.errors import BadInput, OverlayMissing
from neuralmatrix.hardware import overlay_fetch
from neuralmatrix.hardware.overlay_fetch import fetched

DATA = bytes(range(256)) * 40
SHA256 = hashlib.sha256(DATA).hexdigest()


class _Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/cut":
            self.send_response(200)
            self.send_header("Content-Length", str(2 * len(DATA)))
            self.end_headers()
            self.wfile.write(DATA)
        elif self.path in ("/to-http", "/to-file", "/moved"):
            places = {"/to-http": "http://127.0.0.1/a", "/to-file": "file:///etc/passwd"}
            self.send_response(302)
            self.send_header("Location", places.get(self.path, "/overlay.zip"))
            self.end_headers()
        elif self.path == "/overlay.zip":
            self.send_response(200)
            self.send_header("Content-Length", str(len(DATA)))
            self.end_headers()
            self.wfile.write(DATA)
        else:
            self.send_error(404)

    def log_message(self, *words: object) -> None:
        pass


@dataclass(frozen=True)
class Server:
    url: str
    certificate: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve a file over https with a certificate of its own."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl: apt install openssl")
    folder = tmp_path_factory.mktemp("https")
    key, certificate = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", key,
         "-out", certificate, "-subj", "/CN=localhost", "-addext",
         "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with HTTPServer(("127.0.0.1", 0), _Pages) as httpd:
        httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield Server(f"https://127.0.0.1:{httpd.server_port}", certificate)
        httpd.shutdown()
        thread.join()


@pytest.fixture
def trusted(server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate))
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return server.url


@pytest.mark.parametrize("page", ("overlay.zip", "moved"))
def test_a_download(trusted: str, page: str) -> None:
    with fetched(f"{trusted}/{page}", SHA256) as path:
        assert path.read_bytes() == DATA
    assert not path.exists(), "downloads do not stay"


@pytest.mark.parametrize(
    ("page", "text"),
    (
        ("none", "not fetched: Not Found; check address"),
        ("cut", "not fetched: found 10240 of 20480 bytes"),
        ("to-http", "leads to http://127.0.0.1/a, which is not https"),
        ("to-file", "leads to file:///etc/passwd, which is not https|not fetched: .*not allowed"),
    ),
)
def test_downloads_that_fail(trusted: str, page: str, text: str) -> None:
    with pytest.raises(OverlayMissing, match=text), fetched(f"{trusted}/{page}"):
        pass


def test_a_download_without_end(trusted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlay_fetch, "MOST_ARCHIVE", 1000)
    with pytest.raises(OverlayMissing, match="larger than 1000 bytes"):
        with fetched(f"{trusted}/overlay.zip"):
            pass


def test_a_server_that_nobody_vouches_for(
    server: Server, trusted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(OverlayMissing, match="(?i)not fetched: .*certificate"):
        with fetched(f"{server.url}/overlay.zip"):
            pass


def test_files_of_this_machine(tmp_path: Path) -> None:
    path = tmp_path / "an overlay.zip"
    path.write_bytes(DATA)
    for source in (str(path), path.as_uri()):
        with fetched(source, SHA256.upper()) as found:
            assert found == path
    assert path.exists()


@pytest.mark.parametrize("sha256", ("0" * 64, "12", "x" * 64))
def test_another_hash_than_the_publishers(tmp_path: Path, sha256: str) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(DATA)
    kind = OverlayMissing if sha256 == "0" * 64 else BadInput
    with pytest.raises(kind, match="SHA-256 is .*do not use|allowed are 64 hexadecimal digits"):
        with fetched(str(path), sha256):
            pass


@pytest.mark.parametrize(
    ("source", "kind"),
    (
        ("http://example.org/a.zip", BadInput),
        ("ftp://example.org/a.zip", BadInput),
        ("file://far/a.zip", BadInput),
        ("none.zip", OverlayMissing),
        ("/", OverlayMissing),
    ),
)
def test_sources_that_are_none(source: str, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="allowed are a file, file:///... and https://..."):
        with fetched(source):
            pass
