"""``scl-predict --serve``: the page in a real browser, and what else may come over the wire."""

import base64
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
from concurrent import futures
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import scl_fairseq
from scl_fairseq.cli import predict
from scl_fairseq.serving.service import MOST_BYTES, MOST_LINES, Service
from tests import runs
from tests.serving.browser import CHROMIUM, DRIVER, Browser

TEXTS = ["a fine film", '<img src=x onerror=alert(1)> & "bad"', "über 😀 人"]
needs_browser = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs Debian's packages chromium and chromium-driver"
)


def start(*arguments):
    words = [sys.executable, "-m", "scl_fairseq.cli.predict", *map(str, arguments), "--serve"]
    process = subprocess.Popen(
        [*words, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=runs.ENVIRONMENT,
    )
    line = process.stdout.readline()
    told = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
    assert told, line + process.stderr.read()
    return SimpleNamespace(process=process, port=int(told[1]), url=told[0], line=line)


def stop(server):
    server.process.send_signal(signal.SIGINT)
    _, errors = server.process.communicate(timeout=60)
    return server.process.returncode, errors


@pytest.fixture(scope="module")
def server(tiny, classifier):
    server = start(classifier, "--data-dir", tiny.data)
    yield server
    assert stop(server) == (0, "")


@pytest.fixture(scope="module")
def model(classifier):
    return scl_fairseq.load(classifier)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


def ask(server, body, path="/predict", method="POST", **headers):
    """Status, headers and content of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    kind = {"Content-Type": "application/json"} if body is not None else {}
    connection.request(method, path, body, {**kind, **headers})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, dict(answer.getheaders()), content


def labelled(server, text):
    status, _, content = ask(server, json.dumps({"texts": text}))
    return status, json.loads(content)


def status_of(browser):
    return browser.run("return [status.textContent, status.className]")


def send(browser, text):
    browser.run("texts.value = arguments[0]", text)
    browser.click("#send")
    return browser.wait(lambda: (now := status_of(browser))[0] != "Working…" and now)


@needs_browser
def test_a_reader_types_a_sentence_and_reads_the_label(server, browser, model):
    browser.open(server.url)
    browser.type("#texts", TEXTS[0])
    browser.click("#send")
    browser.wait(lambda: browser.texts("article"))
    expected = model.predict([TEXTS[0]])
    assert browser.texts(".label") == expected.labels
    (article,) = browser.texts("article")
    for name, value in zip(expected.class_names, expected.probabilities[0].tolist(), strict=True):
        assert f"{name}\n{100 * value:.1f} %" in article
    assert len(browser.texts("li")) == 3
    assert browser.texts("#status") == ["1 sentence"]
    assert browser.errors() == []
    assert base64.b64decode(browser.screenshot()).startswith(b"\x89PNG")


@needs_browser
def test_texts_are_text_in_the_page(server, browser, model):
    browser.open(server.url)
    assert send(browser, "\n\n" + "\n".join(TEXTS) + "\n") == ["3 sentences", ""]
    found = [text.split(" → ")[0] for text in browser.texts("article h2")]
    assert found == TEXTS
    assert browser.texts(".label") == model.predict(TEXTS).labels
    assert browser.run("return document.images.length") == 0
    assert browser.errors() == []


@needs_browser
def test_a_megabyte_and_ten_thousand_lines_in_the_browser(server, browser):
    browser.open(server.url)
    assert send(browser, "word " * 200_000) == ["1 sentence; 1 cut to the model's length", ""]
    assert len(browser.texts("article h2")[0]) < 400
    words, kind = send(browser, "a film\n" * 10_000)
    assert kind == "error"
    assert f"10000 lines; the page takes {MOST_LINES} at once" in words
    assert browser.texts("article") == []
    words, kind = send(browser, "x" * (MOST_BYTES + 1))
    assert (kind, "the page takes 2 MB" in words) == ("error", True)
    assert send(browser, " \n")[1] == "error"
    assert send(browser, "a film") == ["1 sentence", ""]


def test_labels_and_probabilities_are_those_of_the_model(server, model):
    status, answer = labelled(server, "\r\n".join(TEXTS))
    assert status == 200
    expected = model.predict(TEXTS)
    assert [row["label"] for row in answer["rows"]] == expected.labels
    assert [row["text"] for row in answer["rows"]] == TEXTS
    found = np.array([row["probabilities"] for row in answer["rows"]])
    np.testing.assert_allclose(found, expected.probabilities.numpy(), atol=1e-5)


def test_neighbours_are_the_nearest_training_sentences(server, model, tiny):
    """By the cosine to each of them, worked out with numpy."""
    rows = (tiny.sample / "train.tsv").read_text("utf-8").splitlines()[1:]
    labels, texts = zip(*(row.split("\t")[1:3] for row in rows), strict=True)
    queries = ["a fine film", "bad", texts[5]]
    vectors, asked = (model.embed(some).numpy().astype(float) for some in (list(texts), queries))
    _, answer = labelled(server, "\n".join(queries))
    label_of = dict(zip(texts, labels, strict=True))
    for query, row in zip(asked, answer["rows"], strict=True):
        cosines = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
        best = np.sort(cosines)[::-1]
        for place, one in enumerate(row["neighbours"]):
            assert one["similarity"] == pytest.approx(best[place], abs=1e-5)
            there = np.flatnonzero(np.abs(cosines - one["similarity"]) < 1e-5)
            # The tiny vocabulary lacks some words.
            alike = [texts[index] for index in there if is_alike(one["text"], texts[index])]
            assert alike, (one, [texts[i] for i in there])
            assert one["label"] in {label_of[text] for text in alike}
    assert is_alike(answer["rows"][2]["neighbours"][0]["text"], texts[5])


def is_alike(spelled, text):
    """The known words are those of the text, in their order."""
    known = [word for word in spelled.split() if word != "<unk>"]
    return known == [word for word in text.split() if word in known]


def test_it_listens_on_the_loopback_address_alone(server):
    listening = []
    for name in ("tcp", "tcp6"):
        for row in Path(f"/proc/{server.process.pid}/net/{name}").read_text().splitlines()[1:]:
            local, _, state = row.split()[1:4]
            if state == "0A" and int(local.split(":")[1], 16) == server.port:
                listening.append(local.split(":")[0])
    assert listening == ["0100007F"]
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None)} | {"::1"}
    for address in others - {"127.0.0.1"}:
        if address.startswith("127."):
            continue
        with pytest.raises(OSError):  # noqa: PT011 (refused, or there is no such network)
            socket.create_connection((address, server.port), timeout=5).close()


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"Host": "example.org"}, 403),
        ({"Host": "127.0.0.1"}, 403),
        ({"Origin": "http://example.org"}, 403),
        ({"Origin": "null"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_other_sites_get_nothing(server, change, status):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    headers = {"Content-Type": "application/json", **change}
    connection.request("POST", "/predict", json.dumps({"texts": "a film"}), headers)
    answer = connection.getresponse()
    content = json.loads(answer.read())
    assert answer.status == status
    assert set(content) == {"error"}
    assert not [name for name, _ in answer.getheaders() if name.startswith("Access-Control")]


@pytest.mark.parametrize(
    "path", ["/../setup.py", "/page.py", "/%2e%2e/etc/passwd", "//x", "/predict"]
)
def test_there_are_no_other_files(server, path):
    assert ask(server, None, path, "GET")[0] == 404


def test_what_the_page_is_made_of(server):
    for path, kind in (
        ("/", "text/html"),
        ("/page.css", "text/css"),
        ("/page.js", "text/javascript"),
    ):
        status, headers, content = ask(server, None, path, "GET", Host=f"localhost:{server.port}")
        assert status == 200
        assert headers["Content-Type"].startswith(kind)
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert b"http" not in content  # nothing from elsewhere


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ("", 400, "JSON"),
        ("[" * 100_000, 400, "JSON"),
        ('{"texts": 3}', 400, "JSON"),
        ('["texts"]', 400, "JSON"),
        (b'{"texts": "\xff"}', 400, "JSON"),
        ('{"texts": "\\ud800"}', 400, "JSON"),
        ('{"texts": ""}', 422, "no sentence"),
        ('{"texts": " \\n\\t\\n"}', 422, "no sentence"),
        ('{"texts": "a\\u0000b"}', 422, "NUL"),
        ('{"texts": "a\\nb\\tc"}', 422, "line 2"),
        (json.dumps({"texts": "a\n" * (MOST_LINES + 1)}), 422, f"{MOST_LINES + 1} lines"),
        ("x" * (MOST_BYTES + 1), 413, "scl-predict --input"),
    ],
)
def test_bad_questions(server, body, status, told):
    found, _, content = ask(server, body)
    assert found == status
    assert told in json.loads(content)["error"]


def test_lengths_that_lie(server):
    for head, status in (
        ("", b"411"),
        ("Content-Length: -3\r\n", b"411"),
        ("Content-Length: 1e3\r\n", b"411"),
        ("Transfer-Encoding: chunked\r\n", b"411"),
        ("Content-Length: 99999999999999999999999\r\n", b"413"),
    ):
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
            start = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
            connection.sendall(
                (start + "Content-Type: application/json\r\n" + head + "\r\n").encode()
            )
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(100).split()[1] == status, head


def test_readers_who_leave_and_many_at_once(server):
    for _ in range(3):
        connection = socket.create_connection(("127.0.0.1", server.port))
        connection.sendall(f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n".encode())
        connection.close()
    with futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: labelled(server, f"a film\n{'word ' * n}bad"), range(8)))
    assert {status for status, _ in found} == {200}
    rows = [answer["rows"][0] for _, answer in found]
    np.testing.assert_allclose(*(
        [row["probabilities"] for row in some] for some in (rows, rows[:1] * len(rows))
    ), atol=1e-5)  # fmt: skip


class Pairs:
    """A model of pairs that finds them all alike."""

    num_inputs, truncated = 2, 0

    def predict(self, rows, max_tokens):
        one = np.ones((len(rows), 1))
        return SimpleNamespace(labels=["x"] * len(rows), probabilities=one, class_names=["x"])


def test_pairs():
    service = Service(Pairs())
    assert [row["text"] for row in service.answer("a\tb\n c\td")["rows"]] == ["a | b", " c | d"]
    with pytest.raises(ValueError, match="line 3 has 0 tabs, expected two sentences"):
        service.answer("a\tb\n\nc")


def test_the_onnx_backend_serves_without_neighbours(classifier, tmp_path, model):
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package, reason="the extra onnx is not installed")
    from scl_fairseq.cli import convert

    words = ["--to", "onnx", str(classifier), str(tmp_path / "out"), "--precision", "fp32"]
    assert convert.main(words) == 0
    server = start(tmp_path / "out")
    _, answer = labelled(server, TEXTS[0])
    assert answer["rows"][0]["label"] == model.predict(TEXTS[:1]).labels[0]
    assert answer["rows"][0]["neighbours"] == []
    code, errors = stop(server)
    assert code == 0
    assert errors == (
        "scl-predict: note: no nearest training sentences: an ONNX model gives no vectors\n"
    )


def test_the_data_may_be_gone(classifier, capsys):
    """That of the fixture is."""
    server = start(classifier)
    assert labelled(server, "a film")[1]["rows"][0]["neighbours"] == []
    code, errors = stop(server)
    assert (code, len(errors.splitlines())) == (0, 1)
    assert "--data-dir names it" in errors
    assert predict.main([str(classifier), "--serve", "--neighbours", "5"]) == 2
    assert "--neighbours: the data of the training is gone" in capsys.readouterr().err


def test_wrong_usage_is_one_line(server, classifier, tiny, tmp_path, capsys):
    (tmp_path / "lines").write_text("a\n")
    for words, told in (
        ([classifier, "--serve", "--port", server.port, "--neighbours", 0], "--port names another"),
        ([classifier, "--serve", "--port", 65536], "expected 0 to 65535"),
        ([classifier, "--serve", "--input", tmp_path / "lines"], "--input does not go with"),
        ([classifier, "--serve", "--format", "tsv"], "--format does not go with"),
        ([classifier, "--port", 0], "--port goes with --serve"),
        ([classifier, "--neighbours", 0], "--neighbours goes with --serve"),
        ([tiny.encoder, "--serve", "--port", 0], "not a classifier"),
        ([tmp_path / "none", "--serve"], "no such checkpoint"),
        ([classifier, "--serve", "--data-dir", tiny.encoder], "no input0/dict.txt"),
    ):
        assert predict.main(list(map(str, words))) == 2, words
        output = capsys.readouterr()
        assert output.out == ""
        (line,) = output.err.splitlines()
        assert told in line
