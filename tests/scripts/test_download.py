"""The download scripts, against a server on this machine that misbehaves as it is told."""

import hashlib
import io
import os
import pty
import re
import shutil
import signal
import subprocess
import tarfile
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPTS = ROOT / "scripts"
TASK_FILES = ("train.tsv", "dev.tsv", "test.tsv")
# Random, so that compression leaves it long enough to be cut, and nothing repeats in it.
NOISE = hashlib.shake_256(b"noise").digest(300_000)


class Site:
    """What the server has, how it misbehaves, and what it was asked for."""

    def __init__(self):
        self.files = {}
        self.errors = {}  # path: HTTP code
        self.cuts = {}  # path: how many bytes come of each answer before the connection breaks
        self.ranges = True
        self.requests = []  # (path, Range header)
        self.served = 0

    def handler(site):
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                asked = self.headers["Range"]
                site.requests.append((self.path, asked))
                content = site.files.get(self.path)
                code = site.errors.get(self.path, 200 if content is not None else 404)
                if code != 200:
                    self.answer(code, b"<html>an error page</html>")
                elif asked and site.ranges:
                    start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
                    where = f"{start}-{len(content) - 1}"
                    if start >= len(content):
                        self.answer(416, b"no such range", f"bytes */{len(content)}")
                    else:
                        self.answer(206, content[start:], f"bytes {where}/{len(content)}")
                else:
                    self.answer(200, content)

            def answer(self, code, body, content_range=None):
                self.send_response(code)
                self.send_header("Content-Length", str(len(body)))
                if content_range:
                    self.send_header("Content-Range", content_range)
                self.end_headers()
                if cuts := site.cuts.get(self.path):
                    body = body[: cuts.pop()]
                site.served += len(body)
                self.wfile.write(body)

        return Handler


@pytest.fixture
def site():
    site = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), site.handler())
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    site.url = f"http://127.0.0.1:{server.server_port}"
    yield site
    server.shutdown()
    server.server_close()


@pytest.fixture
def environment(site, tmp_path):
    """The environment in which the scripts know of no other server; no checksum is published."""
    (tmp_path / "checksums.txt").write_text("# none\n")
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    return {
        **kept,
        "no_proxy": "127.0.0.1",
        "GLUE_URL": site.url,
        "SENTEVAL_URL": f"{site.url}/senteval",
        "MRPC_DEV_IDS_URL": f"{site.url}/mrpc_dev_ids.tsv",
        "GPT2_BPE_URL": site.url,
        "ROBERTA_URL": site.url,
        "CHECKSUMS": str(tmp_path / "checksums.txt"),
        "RETRY_DELAY": "0",
    }


@pytest.fixture
def run(environment, tmp_path):
    def run(script, *arguments, **variables):
        return subprocess.run(
            [SCRIPTS / script, *map(str, arguments)],
            cwd=tmp_path,
            env={**environment, **variables},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    return run


def publish(environment, name, content):
    with open(environment["CHECKSUMS"], "a") as stream:
        stream.write(f"{hashlib.sha256(content).hexdigest()}  {name}  here\n")


def make_zip(folder, contents):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(f"{folder}/{name}", content)
    return buffer.getvalue()


def make_tar(folder, contents):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in contents.items():
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


SST2 = make_zip("SST-2", {**dict.fromkeys(TASK_FILES, b"sentence\tlabel\n"), "original": NOISE})
BPE = {"encoder.json": NOISE[:200_000], "vocab.bpe": NOISE[:5000], "dict.txt": NOISE[:9000]}


def everything(folder):
    """All files below a folder, hidden ones too, with what is in them."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def refusal(done):
    """The one line a refused run ends with."""
    assert done.returncode == 2, done
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_glue_tasks_lie_where_they_should(site, environment, run, tmp_path):
    mnli = ("train", "dev_matched", "dev_mismatched", "test_matched", "test_mismatched")
    site.files = {
        "/SST-2.zip": SST2,
        "/CoLA.zip": make_zip("CoLA", dict.fromkeys(TASK_FILES, "CoLA")),
        "/RTE.zip": make_zip("RTE", dict.fromkeys(TASK_FILES, "RTE")),
        "/QNLIv2.zip": make_zip("QNLI", dict.fromkeys(TASK_FILES, "QNLI")),
        "/QQP-clean.zip": make_zip("QQP", dict.fromkeys(TASK_FILES, "QQP")),
        "/WNLI.zip": make_zip("WNLI", dict.fromkeys(TASK_FILES, "WNLI")),
        "/MNLI.zip": make_zip("MNLI", {f"{name}.tsv": "MNLI" for name in mnli}),
        **mrpc_site(*mrpc_sources(MRPC_ROWS, MRPC_ROWS[:2], [MRPC_ROWS[1]])),
    }
    for path, content in site.files.items():
        publish(environment, Path(path).name, content)

    done = run("download_glue.sh")
    assert (done.returncode, done.stderr) == (0, "")
    glue = tmp_path / "glue"
    tasks = {"SST-2", "CoLA", "MRPC", "RTE", "QNLI", "MNLI"}
    assert {path.name for path in glue.iterdir()} == tasks
    for task in tasks - {"MNLI"}:
        assert all((glue / task / name).is_file() for name in TASK_FILES)
    assert {path.name for path in (glue / "MNLI").iterdir()} == {f"{name}.tsv" for name in mnli}
    assert (glue / "SST-2" / "original").read_bytes() == NOISE

    before, asked = everything(glue), len(site.requests)
    done = run("download_glue.sh", "--tasks", "MNLI,QQP WNLI", "glue")
    assert (done.returncode, done.stderr) == (0, "")
    assert [path for path, _ in site.requests[asked:]] == ["/QQP-clean.zip", "/WNLI.zip"]
    assert {**before, **everything(glue)} == everything(glue)


def test_a_second_run_downloads_nothing(site, run, tmp_path):
    site.files = {f"/{name}": content for name, content in BPE.items()}
    site.files["/SST-2.zip"] = SST2
    site.files["/roberta.base.tar.gz"] = make_tar(
        "roberta.base", {"model.pt": b"m", "dict.txt": b"d"}
    )
    commands = (
        ("download_glue.sh", "--tasks=SST-2", "data"),
        ("download_bpe.sh", "data/bpe"),
        ("download_roberta.sh", "--model", "base", "data"),
    )
    for command in commands:
        assert run(*command).returncode == 0
    assert len(site.requests) == 5
    before = everything(tmp_path)
    assert {f"data/bpe/{name}" for name in BPE} < set(before)
    assert before["data/roberta.base/model.pt"] == b"m"
    without_curl = path_without(tmp_path / "tools", "curl")
    for command in commands:
        assert run(*command, PATH=without_curl).returncode == 0
    assert len(site.requests) == 5
    after = everything(tmp_path)
    assert {name: after[name] for name in before} == before


def path_without(folder, missing):
    """A PATH, to be made as ``folder``, with the ordinary commands but for one."""
    folder.mkdir()
    ordinary = (
        "awk basename bash cat curl cut dirname env gzip mkdir mv python3 rm sed sha256sum shasum "
        "sleep tail tar wc"
    )
    for command in set(ordinary.split()) - {missing}:
        if found := shutil.which(command):
            (folder / command).symlink_to(found)
    return str(folder)


@pytest.mark.parametrize(
    ("command", "missing"), [("download_bpe.sh", "curl"), ("download_roberta.sh", "tar")]
)
def test_a_missing_tool_is_named(site, run, tmp_path, command, missing):
    site.files = {f"/{name}": content for name, content in BPE.items()}
    line = refusal(run(command, PATH=path_without(tmp_path / "tools", missing)))
    assert f"{missing} was not found" in line
    assert site.requests == []


def test_goes_on_after_a_broken_connection(site, environment, run, tmp_path):
    site.files = {f"/{name}": content for name, content in BPE.items()}
    publish(environment, "encoder.json", BPE["encoder.json"])
    site.cuts = {"/encoder.json": [120_000]}
    done = run("download_bpe.sh", "bpe")
    assert done.returncode == 0
    assert "trying again" in done.stderr
    assert site.requests[:2] == [("/encoder.json", None), ("/encoder.json", "bytes=120000-")]
    assert (tmp_path / "bpe" / "encoder.json").read_bytes() == BPE["encoder.json"]
    assert site.served == sum(map(len, BPE.values()))


def test_tries_that_bring_something_do_not_count(site, run, tmp_path):
    site.files = {"/SST-2.zip": SST2}
    site.cuts = {"/SST-2.zip": [50_000] * 4}
    done = run("download_glue.sh", "--tasks", "SST-2", RETRIES="2")
    assert done.returncode == 0, done
    assert site.served == len(SST2)
    site.cuts = {"/SST-2.zip": [0, 0, 50_000]}
    done = run("download_glue.sh", "--tasks", "SST-2", "other", RETRIES="2")
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")]


@pytest.mark.parametrize("is_published", [True, False])
def test_a_second_run_goes_on_where_the_first_broke_off(
    site, environment, run, tmp_path, is_published
):
    site.files = {"/SST-2.zip": SST2}
    if is_published:
        publish(environment, "SST-2.zip", SST2)
    site.cuts = {"/SST-2.zip": [200_000]}
    line = refusal(run("download_glue.sh", "--tasks", "SST-2", RETRIES="1"))
    assert "SST-2.zip was not downloaded" in line
    assert set(everything(tmp_path / "glue")) == {"SST-2.zip.part"}
    done = run("download_glue.sh", "--tasks", "SST-2", RETRIES="1")
    assert done.returncode == 0, done
    assert site.requests == [("/SST-2.zip", None), ("/SST-2.zip", "bytes=200000-")]
    assert site.served == len(SST2)
    assert (tmp_path / "glue" / "SST-2" / "original").read_bytes() == NOISE


def test_a_server_that_cannot_resume_is_asked_from_the_start(site, environment, run, tmp_path):
    site.files = {"/SST-2.zip": SST2}
    site.ranges = False
    publish(environment, "SST-2.zip", SST2)
    site.cuts = {"/SST-2.zip": [200_000]}
    done = run("download_glue.sh", "--tasks", "SST-2")
    assert done.returncode == 0, done
    assert site.requests[-1] == ("/SST-2.zip", None)
    assert (tmp_path / "glue" / "SST-2" / "original").read_bytes() == NOISE


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("is_published", [True, False])
def test_a_download_that_was_complete_is_not_repeated(
    site, environment, run, tmp_path, is_published, ranges
):
    site.files = {"/SST-2.zip": SST2}
    site.ranges = ranges
    if is_published:
        publish(environment, "SST-2.zip", SST2)
    part = tmp_path / "glue" / "SST-2.zip.part"
    part.parent.mkdir()
    part.write_bytes(SST2)
    done = run("download_glue.sh", "--tasks", "SST-2")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "glue" / "SST-2" / "original").read_bytes() == NOISE
    assert [asked for _, asked in site.requests] == [f"bytes={len(SST2)}-"]


@pytest.mark.parametrize("left", [b"x" * 1000, SST2 + b"x" * 1000], ids=["short", "long"])
@pytest.mark.parametrize("is_published", [True, False])
def test_what_is_left_of_something_else_is_thrown_away(
    site, environment, run, tmp_path, is_published, left
):
    site.files = {"/SST-2.zip": SST2}
    if is_published:
        publish(environment, "SST-2.zip", SST2)
    part = tmp_path / "glue" / "SST-2.zip.part"
    part.parent.mkdir()
    part.write_bytes(left)
    done = run("download_glue.sh", "--tasks", "SST-2")
    assert done.returncode == 0, done
    assert (tmp_path / "glue" / "SST-2" / "original").read_bytes() == NOISE


def test_without_a_checksum_a_plain_file_is_not_resumed(site, run, tmp_path):
    site.files = {f"/{name}": content for name, content in BPE.items()}
    part = tmp_path / "bpe" / "dict.txt.part"
    part.parent.mkdir()
    part.write_bytes(b"of another version")
    assert run("download_bpe.sh", "bpe").returncode == 0
    assert (tmp_path / "bpe" / "dict.txt").read_bytes() == BPE["dict.txt"]


def test_a_wrong_checksum_is_refused(site, environment, run, tmp_path):
    site.files = {"/SST-2.zip": SST2}
    publish(environment, "SST-2.zip", b"another archive")
    line = refusal(run("download_glue.sh", "--tasks", "SST-2"))
    for said in ("SST-2.zip", digest(b"another archive"), digest(SST2)):
        assert said in line
    assert everything(tmp_path / "glue") == {}
    assert len(site.requests) == 1


def digest(content):
    return hashlib.sha256(content).hexdigest()


def test_an_altered_file_is_refused_and_kept(site, environment, run, tmp_path):
    site.files = {f"/{name}": content for name, content in BPE.items()}
    publish(environment, "vocab.bpe", BPE["vocab.bpe"])
    assert run("download_bpe.sh", "bpe").returncode == 0
    (tmp_path / "bpe" / "vocab.bpe").write_bytes(b"altered")
    line = refusal(run("download_bpe.sh", "bpe"))
    assert "bpe/vocab.bpe has SHA-256" in line
    assert "move it away" in line
    assert (tmp_path / "bpe" / "vocab.bpe").read_bytes() == b"altered"


def test_without_a_checksum_the_first_download_counts(site, run, tmp_path):
    path = "/roberta.large.tar.gz"
    contents = {"model.pt": b"first", "dict.txt": b"d"}
    site.files = {path: make_tar("roberta.large", contents)}
    model = tmp_path / "roberta.large" / "model.pt"
    first = digest(site.files[path])
    assert run("download_roberta.sh").returncode == 0
    assert (tmp_path / ".sha256").read_text() == f"{first}  roberta.large.tar.gz\n"

    shutil.rmtree(model.parent)
    site.files = {path: make_tar("roberta.large", {**contents, "model.pt": b"second"})}
    line = refusal(run("download_roberta.sh"))
    for said in (first, digest(site.files[path]), "to accept the change", "./.sha256"):
        assert said in line
    assert not model.parent.exists()

    (tmp_path / ".sha256").unlink()
    assert run("download_roberta.sh").returncode == 0
    assert model.read_bytes() == b"second"


def test_without_a_checksum_a_damaged_archive_is_not_the_first_download(site, run, tmp_path):
    archive = make_tar("roberta.large", {"model.pt": NOISE, "dict.txt": b"d"})
    for broken in (archive[:-100], b"<html>log in first</html>"):
        site.files = {"/roberta.large.tar.gz": broken}
        line = refusal(run("download_roberta.sh", "out"))
        assert "is not a whole archive" in line
        assert everything(tmp_path / "out") == {}
    site.files = {"/roberta.large.tar.gz": archive}
    assert run("download_roberta.sh", "out").returncode == 0


@pytest.mark.parametrize("code", [403, 404, 503])
def test_an_error_of_the_server_is_one_line(site, run, tmp_path, code):
    site.files = {"/SST-2.zip": SST2}
    site.errors = {"/SST-2.zip": code}
    done = run("download_glue.sh", "--tasks", "SST-2", RETRIES="1")
    assert refusal(done).endswith(f"{site.url}/SST-2.zip: HTTP {code}")
    assert everything(tmp_path / "glue") == {}


def test_only_what_may_pass_is_tried_again(site, run):
    site.errors = {"/SST-2.zip": 404}
    run("download_glue.sh", "--tasks", "SST-2", RETRIES="3")
    assert len(site.requests) == 1
    site.errors = {"/SST-2.zip": 503}
    run("download_glue.sh", "--tasks", "SST-2", RETRIES="3")
    assert len(site.requests) == 1 + 3


def test_no_answer_at_all(run):
    line = refusal(run("download_bpe.sh", RETRIES="1", GPT2_BPE_URL="http://127.0.0.1:9"))
    assert "encoder.json was not downloaded: http://127.0.0.1:9/encoder.json: " in line


def test_progress_is_shown_on_a_terminal_only(site, environment, tmp_path):
    site.files = {f"/{name}": content for name, content in BPE.items()}
    terminal, its_end = pty.openpty()
    command = [SCRIPTS / "download_bpe.sh", "bpe"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=its_end, stdout=subprocess.DEVNULL
    ) as process:
        os.close(its_end)
        seen = b""
        try:
            while block := os.read(terminal, 1000):
                seen += block
        except OSError:  # how Linux tells that the other end was closed
            pass
    os.close(terminal)
    assert process.returncode == 0
    assert b"#" in seen
    assert b"100" in seen


def test_a_damaged_archive_leaves_no_folder(site, environment, run, tmp_path):
    damaged = bytearray(SST2)
    damaged[len(SST2) // 2] ^= 1  # in the last file: the others are unpacked by then
    site.files = {"/SST-2.zip": bytes(damaged)}
    publish(environment, "SST-2.zip", bytes(damaged))
    line = refusal(run("download_glue.sh", "--tasks", "SST-2"))
    assert "glue/SST-2.zip cannot be unpacked" in line
    assert os.listdir(tmp_path / "glue") == ["SST-2.zip"]


def test_an_archive_without_the_task_is_refused(site, run, tmp_path):
    site.files = {"/SST-2.zip": make_zip("SST-2", {"train.tsv": "rows"})}
    line = refusal(run("download_glue.sh", "--tasks", "SST-2"))
    assert "no SST-2/dev.tsv" in line
    assert not (tmp_path / "glue" / "SST-2").exists()


def test_killed_while_unpacking(site, environment, run, tmp_path):
    site.files = {"/SST-2.zip": SST2}
    publish(environment, "SST-2.zip", SST2)
    tools = tmp_path / "tools"
    tools.mkdir()
    # In place of python3 -I -m zipfile -e ARCHIVE FOLDER.
    (tools / "python3").write_text(
        '#!/bin/sh\nmkdir "$6/SST-2"; echo part > "$6/SST-2/train.tsv"; sleep 60\n'
    )
    (tools / "python3").chmod(0o755)
    process = subprocess.Popen(
        [SCRIPTS / "download_glue.sh", "--tasks", "SST-2"],
        cwd=tmp_path,
        env={**environment, "PATH": f"{tools}:{environment['PATH']}"},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 600
    while not list((tmp_path / "glue").glob("*/SST-2/train.tsv")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    glue = tmp_path / "glue"
    assert list(glue.glob("*/SST-2/train.tsv"))
    assert not (glue / "SST-2").exists()
    done = run("download_glue.sh", "--tasks", "SST-2")
    assert (done.returncode, done.stderr) == (0, "")
    assert os.listdir(glue) == ["SST-2"]
    assert len(site.requests) == 1


def test_an_incomplete_folder_is_not_taken_for_a_task(site, run, tmp_path):
    (tmp_path / "glue" / "SST-2").mkdir(parents=True)
    (tmp_path / "glue" / "SST-2" / "train.tsv").write_text("rows\n")
    line = refusal(run("download_glue.sh", "--tasks", "SST-2"))
    assert "glue/SST-2 is there but has no dev.tsv" in line
    assert site.requests == []


HEADER = b"Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"
TEST_HEADER = b"index\t#1 ID\t#2 ID\t#1 String\t#2 String"
MARK = b"\xef\xbb\xbf"
MRPC_ROWS = [
    (b"1", b"10", b"20", b'He said " no', "a café".encode()),
    (b"0", b"11", b"20", b"one\x0btwo", b"three\xc2\x85four "),
    (b"1", b"10", b"21", b"\rfive", b"six"),
]


def mrpc_sources(train, test, dev, end=b"\n"):
    def table(rows):
        return MARK + b"".join(b"\t".join(row) + end for row in [(HEADER,), *rows])

    return table(train), table(test), b"".join(b"\t".join(row[1:3]) + end for row in dev)


def mrpc_site(train, test, ids):
    return {
        "/senteval/msr_paraphrase_train.txt": train,
        "/senteval/msr_paraphrase_test.txt": test,
        "/mrpc_dev_ids.tsv": ids,
    }


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_mrpc_is_assembled(site, run, tmp_path, end):
    first, second, third = MRPC_ROWS
    site.files = mrpc_site(*mrpc_sources(MRPC_ROWS, [second, first], [second], end))
    done = run("download_glue.sh", "--tasks", "MRPC")
    assert done.returncode == 0, done
    assert {name for name in everything(tmp_path / "glue") if not name.startswith(".")} == {
        f"MRPC/{name}" for name in TASK_FILES
    }
    tables = {name: (tmp_path / "glue" / "MRPC" / name).read_bytes() for name in TASK_FILES}
    lines = {"train.tsv": [(HEADER,), first, third], "dev.tsv": [(HEADER,), second]}
    lines["test.tsv"] = [(TEST_HEADER,), (b"0", *second[1:]), (b"1", *first[1:])]
    assert tables == {
        name: b"".join(b"\t".join(row) + b"\n" for row in rows) for name, rows in lines.items()
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({2: b"10\t20\n10\t22\n9\t9\n"}, "2 of the 3 rows of the development set are missing"),
        ({2: b"10\t20\n<html>\n"}, "mrpc_dev_ids.tsv: line 2 is not a pair of ids"),
        ({2: b""}, "mrpc_dev_ids.tsv: line 1 is not a pair of ids"),
        ({1: b"<html>"}, "msr_paraphrase_test.txt: line 1 is not the header"),
        ({0: HEADER + b"\n1\t10\t20\tone\n"}, "line 2 has 4 fields, expected 5"),
    ],
)
def test_mrpc_with_a_wrong_source_is_refused(site, run, tmp_path, change, said):
    sources = dict(enumerate(mrpc_sources(MRPC_ROWS, MRPC_ROWS, MRPC_ROWS[:1])))
    site.files = mrpc_site(*{**sources, **change}.values())
    assert said in refusal(run("download_glue.sh", "--tasks", "MRPC"))
    assert not [path for path in (tmp_path / "glue").iterdir() if path.is_dir()]


def test_the_ids_of_mrpc_may_have_several_addresses(site, run):
    site.files = mrpc_site(*mrpc_sources(MRPC_ROWS, MRPC_ROWS, MRPC_ROWS[:1]))
    elsewhere = f"{site.url}/nothing {site.url}/mrpc_dev_ids.tsv?alt=media&token=1"
    site.files["/mrpc_dev_ids.tsv?alt=media&token=1"] = site.files.pop("/mrpc_dev_ids.tsv")
    done = run("download_glue.sh", "--tasks", "MRPC", MRPC_DEV_IDS_URL=elsewhere)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("/nothing", None) in site.requests


def test_the_real_mrpc_is_assembled(shared_data, tmp_path):
    real = shared_data / "glue" / "MRPC"
    if not real.is_dir():
        pytest.skip("the real MRPC is not beside the checkout")
    tables = {name: (real / name).read_bytes().removeprefix(MARK) for name in TASK_FILES}
    rows = {
        name: [tuple(line.split(b"\t")) for line in table.split(b"\n")[1:-1]]
        for name, table in tables.items()
    }
    train, dev = list(rows["train.tsv"]), rows["dev.tsv"]
    for place, row in enumerate(dev):
        train.insert(place * 7, row)
    test = [(b"1", *row[1:]) for row in rows["test.tsv"]]
    for path, content in mrpc_site(*mrpc_sources(train, test, sorted(dev))).items():
        (tmp_path / Path(path).name).write_bytes(content)
    subprocess.run(
        ["python3", SCRIPTS / "assemble_mrpc.py", tmp_path, tmp_path / "MRPC"], check=True
    )
    assert everything(tmp_path / "MRPC") == tables


def test_the_published_checksums(shared_data):
    lines = (SCRIPTS / "checksums.txt").read_text().splitlines()
    rows = [line.split() for line in lines if not line.startswith("#")]
    assert all(re.fullmatch("[0-9a-f]{64}", checksum) for checksum, *_ in rows)
    names = [name for _, name, _ in rows]
    assert len(set(names)) == len(names)
    described = {line.split()[1] for line in lines if re.match(r"# \w+  ", line)}
    assert {source for *_, source in rows} == described
    for checksum, name, _ in rows:
        file = shared_data / "gpt2_bpe" / name
        if file.is_file():
            assert digest(file.read_bytes()) == checksum, name


@pytest.mark.parametrize("script", ["download_glue.sh", "download_bpe.sh", "download_roberta.sh"])
def test_the_command_line(site, run, tmp_path, script):
    done = run(script, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: scripts/{script} ")
    assert "_URL" in done.stdout
    assert f"example:\n  scripts/{script} " in done.stdout
    assert "unknown option --what" in refusal(run(script, "--what"))
    assert "one DIR is expected" in refusal(run(script, "one", "two"))
    missing = refusal(run("download_bpe.sh", CHECKSUMS="nowhere"))
    assert "nowhere, does not exist" in missing
    assert site.requests == []
    assert list(tmp_path.iterdir()) == [tmp_path / "checksums.txt"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("download_glue.sh", "--tasks", "SST"), "unknown task SST, expected some of: SST-2 "),
        (("download_glue.sh", "--tasks", ""), "--tasks needs names"),
        (("download_glue.sh", "--tasks"), "--tasks needs names"),
        (("download_roberta.sh", "--model", "huge"), "--model huge: expected base or large"),
        (("download_roberta.sh", "--model"), "--model needs base or large"),
    ],
)
def test_bad_options(site, run, command, said):
    assert said in refusal(run(*command))
    assert site.requests == []


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.sh")), ids=lambda path: path.name)
def test_the_shell_understands_the_script(script):
    subprocess.run(["bash", "-n", script], check=True)
    checker = shutil.which("shellcheck")
    if checker and script.name.startswith(("download", "preprocess")):
        subprocess.run([checker, "-x", script], check=True, cwd=ROOT)
