"""The web service: answers, limits on uploads, checks of host and origin; nothing is kept or told."""

import io
import json
import logging
import re
import select
import signal
import socket
import tempfile
import threading
import time
from contextlib import suppress
from http.client import HTTPConnection

import cv2
import numpy as np
import pytest
from conftest import ROOT
from serve_case import LIMITS, SECRET, STUDY, phantom_dicom, serving

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("uvicorn", reason="the extra serve is not installed")


def png(seed: int = 0, side: int = 96) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side), dtype=np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()


@pytest.fixture(scope="module")
def phantom(tmp_path_factory) -> bytes:
    return phantom_dicom(tmp_path_factory.mktemp("raw"))


@pytest.fixture(scope="module")
def address() -> tuple[str, int]:
    with serving() as address:
        yield address


def form(content: bytes, name: str = f"{SECRET}.dcm") -> tuple[bytes, dict[str, str]]:
    head = f'--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    return head.encode() + content + b"\r\n--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"}


def ask(address, path: str, content: bytes | None = None, method: str = "", **headers: str):
    """Status, headers and body of an answer."""
    connection = HTTPConnection(*address, timeout=60)
    body, own = (None, {}) if content is None else form(content)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method or ("GET" if body is None else "POST"), path, body, own | given)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, answer.headers, text


def test_an_image_is_answered_as_the_python_interface_does(address, phantom, tmp_path):
    from vindr_det import load
    from vindr_det.imaging.dicom.identity import UIDS

    (tmp_path / "x.dcm").write_bytes(phantom)
    expected = load("phantom").predict(tmp_path / "x.dcm", score=0.001).to_dict()
    status, _, text = ask(address, "/predict?score=0.001", phantom)
    report = json.loads(text)
    assert status == 200 and report.keys() == expected.keys() - set(UIDS)
    assert (report["image_id"], report["file"]) == ("upload", "upload.dcm")
    assert len(report["boxes"]) == len(expected["boxes"]) > 0
    for own, other in zip(report["boxes"], expected["boxes"], strict=True):
        assert own["class_name"] == other["class_name"]
        assert all(own[key] == pytest.approx(other[key], abs=1e-2) for key in ("score", "x_min", "y_max"))
    assert report["status"] == "flagged" and "synthetic images" in report["reason"]
    assert SECRET not in text and STUDY not in text


def test_extras_are_given_where_they_are_asked_for(address, phantom):
    report = json.loads(ask(address, "/predict?uids=true&picture=true&maps=3&compared_score=0", phantom)[2])
    assert report["StudyInstanceUID"] == STUDY
    assert report["picture"].startswith("data:image/jpeg;base64,")
    (only,) = report["maps"]
    assert only["column"] == "p_abnormal" and only["picture"].startswith("data:image/png;base64,")
    assert 0 <= only["energy_in_boxes"] <= 1 and only["maximum_in_box"] in (True, False)


@pytest.mark.parametrize("content, reason", [
    (b"", "unknown image format"), (b"no image", "unknown image format"),
    (png()[:200], "decode"), (png(side=600), "360,000 pixels"),
    (cv2.imencode(".png", np.zeros((64, 64), np.uint8))[1].tobytes(), "shows nothing"),
    (b"\0" * 128 + b"DICM" + b"\xff" * 64, "")])
def test_an_image_that_was_not_read_is_an_error_and_never_normal(address, content, reason):
    status, _, text = ask(address, "/predict?picture=true&maps=1", content)
    report = json.loads(text)
    assert status == 422 and report["status"] == "failed" and reason in report["reason"]
    assert report["boxes"] is report["no_finding"] is report["probabilities"] is None
    assert "picture" not in report and "/" not in report["reason"]


def test_a_model_that_fails_is_no_normal_image(address, phantom, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError(SECRET)

    monkeypatch.setattr("vindr_det.serve.answers.predict_images", fail)
    status, _, text = ask(address, "/predict", phantom)
    assert status == 422 and json.loads(text)["boxes"] is None and "a model failed" in text
    assert SECRET not in text + caplog.text and "RuntimeError" in caplog.text


@pytest.mark.parametrize("path, content, headers, status", [
    ("/predict?score=2", png(), {}, 422), ("/predict?score=nan", png(), {}, 422),
    ("/predict?maps=-1", png(), {}, 422), ("/predict?threshold=0.9", png(), {}, 422),
    ("/predict?score=0.1&score=0.9", png(), {}, 422), ("/predict", None, {"method": "POST"}, 400),
    ("/predict", bytes(2**20), {}, 413), ("/predict", png(), {"Content_Length": "-5"}, 400),
    ("/predict", png(), {"Origin": "http://evil.example"}, 403), ("/predict", png(), {"Origin": "null"}, 403),
    ("/predict", png(), {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"}, 403),
    ("/", None, {"Host": "evil.example"}, 421), ("/", None, {"Host": "127.0.0.1.evil.example:80"}, 421),
    ("/", None, {"Host": "reading-room:8000"}, 200), ("/", None, {"Host": "[::1]:8000"}, 200),
    ("/", None, {"Host": "localhost"}, 200), ("/../setup.py", None, {}, 404),
    ("/static/page.js", None, {}, 404),
    ("/predict", None, {}, 405)])
def test_requests_that_are_refused(address, path, content, headers, status):
    assert ask(address, path, content, **headers)[0] == status


@pytest.mark.parametrize("path", ["/", "/docs", "/page.js", "/page.css", "/docs.js", "/health",
                                  "/openapi.json"])
def test_pages_load_nothing_from_elsewhere_and_forbid_it(address, path):
    status, headers, text = ask(address, path)
    assert status == 200 and headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert not headers["access-control-allow-origin"] and headers["cache-control"] == "no-store"
    assert not [word for word in text.split('"') if word.startswith(("http://", "https://", "//"))
                and "w3.org" not in word]


def test_the_description_names_every_key_of_an_answer(address, phantom):
    described = json.loads(ask(address, "/openapi.json")[2])["components"]["schemas"]
    report = json.loads(ask(address, "/predict?uids=true&picture=true&maps=1", phantom)[2])
    assert report.keys() == described["Report"]["properties"].keys()
    assert report["maps"][0].keys() == described["EvidenceMap"]["properties"].keys()


def slow(address, body: bytes) -> socket.socket:
    """A connection that has sent the head of an upload and the beginning of its body."""
    connection = socket.create_connection(address[:2], timeout=20)
    connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n"
                       b"Content-Type: multipart/form-data; boundary=x\r\n\r\n" + body)
    return connection


def test_slow_uploads_end_and_a_full_queue_names_the_time_to_come_again(address):
    waiting = [slow(address, form(png())[0][:100]) for _ in range(LIMITS["queue"])]
    while json.loads(ask(address, "/health")[2])["busy"] < LIMITS["queue"]:
        time.sleep(0.01)
    status, headers, _ = ask(address, "/predict", png())
    assert status == 503 and int(headers["retry-after"]) > 0
    assert all(b" 408 " in connection.recv(100) for connection in waiting)
    assert ask(address, "/predict", png())[0] == 200


def test_an_upload_that_ends_early_or_never_leaves_its_place(address):
    slow(address, form(png())[0][:100]).close()
    with socket.create_connection(address[:2], timeout=20) as connection:  # more than a chunk may hold
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
                           b"Content-Type: multipart/form-data; boundary=x\r\n\r\n")
        chunk = form(bytes(2**21))[0]
        connection.sendall(b"%x\r\n" % len(chunk) + chunk + b"\r\n0\r\n\r\n")
        assert b" 413 " in connection.recv(100)
    end = time.monotonic() + 5
    while (busy := json.loads(ask(address, "/health")[2])["busy"]) and time.monotonic() < end:
        time.sleep(0.02)
    assert busy == 0


def test_nothing_is_kept_for_a_moment(address, phantom, caplog, monkeypatch, tmp_path):
    """Whatever ends the service, also where it cannot tidy up: no file has a name while an image is read."""
    from vindr_det.imaging import image_run

    def read_all(*args, **options):
        yield from reading(*args, **options)
        left.extend(path for path in tmp_path.rglob("*") if path.is_file())

    reading, left = image_run.read_all, []
    monkeypatch.setattr(image_run, "read_all", read_all)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    caplog.set_level(logging.DEBUG)
    assert ask(address, "/predict", phantom)[0] == 200 and not left
    assert SECRET not in caplog.text and STUDY not in caplog.text


def parts(*names: str) -> bytes:
    """A form with an image in each of these fields."""
    heads = [f'--x\r\nContent-Disposition: form-data; name="{name}"; filename="a"\r\n\r\n' for name in names]
    return b"".join(head.encode() + png() + b"\r\n" for head in heads) + b"--x--\r\n"


def talk(address, text: bytes, seconds: float = 20) -> bytes:
    """What comes back until the service closes the connection."""
    answer = b""
    with socket.create_connection(address[:2], timeout=seconds) as connection:
        connection.sendall(text)
        while part := connection.recv(2**16):
            answer += part
    return answer


@pytest.mark.parametrize("names", [("file", "file"), ("file", "other")])
def test_further_parts_of_a_form_are_not_ignored(address, names):
    body = parts(*names)
    head = (f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
            "Connection: close\r\nContent-Type: multipart/form-data; boundary=x\r\n\r\n")
    answer = talk(address, head.encode() + body)
    assert b" 400 " in answer[:20] and b"expected one file and nothing else in the form, got 2 p" in answer


def test_a_request_of_two_lengths_is_refused_and_its_connection_closed(address):
    body = b"0\r\n\r\nGET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = talk(address, b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
                           b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert answer.startswith(b"HTTP/1.1 400 ") and answer.count(b"HTTP/1.1") == 1


HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"


@pytest.mark.parametrize("text", [
    HEAD + b"Content-Length: 5\r\n\r\nhello\r\n", HEAD + b"\r\nhello\r\n",
    HEAD.replace(b"POST", b"GET") + b"\r\nhello\r\n", HEAD + b"Origin: null\r\n\r\n5\r\nhello\r\nworld\r\n"])
@pytest.mark.parametrize("apart", [False, True])
def test_a_body_that_is_no_body_is_refused_once(address, caplog, text, apart):
    """Whether it comes with its head or later, when there is an answer already."""
    head, end, body = text.partition(b"\r\n\r\n")
    with socket.create_connection(address[:2], timeout=20) as connection:
        answer = b""
        for part in (head + end, body) if apart else (text,):
            connection.sendall(part)
            if apart:
                time.sleep(0.1)
        with suppress(ConnectionResetError):
            while part := connection.recv(2**16):
                answer += part
    assert answer.count(b"HTTP/1.1 ") == 1 and answer.startswith(b"HTTP/1.1 4")
    time.sleep(0.05)
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("path", ["/", "/health", "/page.js"])
def test_heads_of_pages_are_answered(address, path):
    (status, headers, text), full = ask(address, path, method="HEAD"), ask(address, path)
    assert (status, text) == (200, "") and headers["content-length"] == full[1]["content-length"] != "0"


def trickle(connection: socket.socket, seconds: float) -> float:
    """Seconds until the service ends a connection that gets the head of a request a byte at a time."""
    connection.settimeout(0.1)
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        try:
            connection.sendall(b"x")
            if not connection.recv(100):
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - began


@pytest.mark.parametrize("before", [b"", b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_the_head_of_a_request_has_limited_time(address, before):
    with socket.create_connection(address[:2], timeout=20) as connection:
        if before:
            connection.sendall(before)
            assert b" 200 " in connection.recv(2**16)
        connection.sendall(b"GET /health HTTP/1.1\r\nX: ")
        assert LIMITS["head_seconds"] * 0.5 < trickle(connection, 20) < 15


def test_answers_that_nobody_takes_end(address):
    """Requests one after the other without a look at the answers fill the buffers of both sides."""
    request = b"GET /page.js HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 8000 + b"\r\n\r\n"
    with socket.create_connection(address[:2], timeout=1) as connection:
        with suppress(OSError):
            while True:
                connection.sendall(request)
        ended = select.poll()
        ended.register(connection, 0)  # errors and the end alone
        assert ended.poll(20_000)
    assert ask(address, "/health")[0] == 200


def test_an_answer_that_is_taken_slowly_but_steadily_is_not_cut_off():
    """In twice the time that a client has to take some of it."""
    from serve_case import running

    async def answer(_, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(size)})

    size, seconds = 2**24, 1.0
    with running(answer, answer_seconds=seconds) as address, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        connection.settimeout(20)
        connection.connect(address)
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        taken, began = 0, time.monotonic()
        while taken < size:
            part = connection.recv(2**16)
            assert part, f"ended after {taken} bytes"
            taken += len(part)
            time.sleep(max(0.0, began + 2 * seconds * taken / size - time.monotonic()))


def test_connections_that_say_nothing_keep_nobody_out(address):
    idle = [socket.create_connection(address[:2], timeout=20) for _ in range(2 * LIMITS["connections"])]
    try:
        assert ask(address, "/health")[0] == 200
        assert ask(address, "/predict", png())[0] == 200
    finally:
        for connection in idle:
            connection.close()


def test_an_upload_whose_client_has_left_is_not_begun(address, monkeypatch):
    from vindr_det.imaging import image_run

    def read_all(*args, **options):
        began.append(1)
        running.wait(10)
        yield from reading(*args, **options)

    reading, running, began = image_run.read_all, threading.Event(), []
    monkeypatch.setattr(image_run, "read_all", read_all)
    body, headers = form(png())
    clients = []
    for _ in range(3):  # two are read at a time
        client = HTTPConnection(*address, timeout=60)
        client.request("POST", "/predict", body, headers)
        clients.append(client)
    while json.loads(ask(address, "/health")[2])["busy"] < 3 or len(began) < 2:
        time.sleep(0.01)
    clients.pop().close()
    while json.loads(ask(address, "/health")[2])["busy"] > 2:
        time.sleep(0.01)
    running.set()
    assert [client.getresponse().status for client in clients] == [200, 200]
    assert len(began) == 2


def test_the_time_for_reading_an_image_is_limited(monkeypatch, phantom):
    from vindr_det.bundle import read_bundle
    from vindr_det.imaging import image_run
    from vindr_det.parallel import Failure
    from vindr_det.serve.answers import Answerer, Question

    def in_order(work, items, workers, ahead, seconds):
        given.append(seconds)
        return ((item, Failure("did not end")) for item in items)

    def run_alone(work, item, seconds):
        given.append(seconds)
        return work(item)

    given = []
    monkeypatch.setattr(image_run, "in_order", in_order)
    monkeypatch.setattr(image_run, "run_alone", run_alone)
    answerer = Answerer(read_bundle("phantom", "cpu").models, read_seconds=7)
    report = answerer.answer(io.BytesIO(phantom), Question(uids=True))
    assert (report["status"], report["reason"]) == ("failed", "did not end")
    assert report["StudyInstanceUID"] == STUDY
    assert given == [7, 7]  # for the pixels, and for the UIDs of a file whose pixels took its process down


@pytest.mark.slow
def test_the_command_serves_until_it_is_ended(tmp_path, phantom, processes):
    command = [ROOT / "tools/serve.py", "--bundle", "phantom", "--device", "cpu", "--port"]
    process = processes.start([*command, "0"], tmp_path)
    try:
        while not process.out.exists() or "\n" not in process.out.read_text():
            assert process.poll() is None, process.errors.read_text()
            time.sleep(0.05)
        line = process.out.read_text().strip()
        port = int(line.rpartition(":")[2])
        assert line == f"http://127.0.0.1:{port}"
        assert ask(("127.0.0.1", port), "/predict", phantom)[0] == 200
        again = processes.run([*command, port])
        assert again.returncode == 2 and f"--port {port}: cannot be listened on" in again.stderr
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    assert SECRET not in process.errors.read_text() and not list(tmp_path.iterdir())


def test_a_missing_library_is_named(monkeypatch):
    from vindr_det.exceptions import InputError
    from vindr_det.serve import libraries

    monkeypatch.setattr(libraries, "find_spec", lambda name: None if name == "python_multipart" else name)
    with pytest.raises(InputError, match="not installed: python-multipart"):
        libraries.require_libraries()


@pytest.mark.parametrize("option", ["--read-seconds", "--upload-seconds"])
@pytest.mark.parametrize("seconds", ["inf", "nan", "1e300", "86401", "0.9", "-1"])
def test_times_that_no_clock_has_are_refused(option, seconds):
    from vindr_det.commands.serve import main
    from vindr_det.exceptions import InputError

    expected = re.escape(f"{option} {float(seconds):g}: expected 1 to 86400 seconds")
    with pytest.raises(InputError, match=expected):
        main(["--bundle", "none", f"{option}={seconds}"])


@pytest.mark.parametrize("host, expected", [("127.0.0.1", True), ("::1", True), ("localhost", True),
                                            ("0.0.0.0", False), ("10.1.2.3", False), ("pacs", False)])
def test_other_addresses_than_the_loopback_are_known(host, expected):
    from vindr_det.serve.service import _is_loopback

    assert _is_loopback(host) == expected
