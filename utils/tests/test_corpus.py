"""Where the text comes from, with a local server in place of the network."""

import gc
import hashlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from utils import corpus, mock_corpus, shakespeare
from utils.corpus import load_corpus, read_pieces, split_text, train_length
from utils.errors import CourseError, UsageError
from utils.shakespeare import download_shakespeare

RIGHT = b"First Citizen:\nBefore we proceed, a small file.\n"
WRONG_SIZE = RIGHT + b"\n"
WRONG_HASH = RIGHT.upper()


class Library(BaseHTTPRequestHandler):
    """Serves /right, /long, /other (of the right size) and /cut (which ends too early)."""

    def do_GET(self) -> None:
        bodies = {"/right": RIGHT, "/long": WRONG_SIZE, "/other": WRONG_HASH, "/cut": RIGHT[:20]}
        if self.path not in bodies:
            self.send_error(404)
            return
        self.send_response(200)
        promised = RIGHT if self.path == "/cut" else bodies[self.path]
        self.send_header("Content-Length", str(len(promised)))
        self.end_headers()
        self.wfile.write(bodies[self.path])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002, the name is not ours
        """Log nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Library) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


# urllib does not close the sockets of failed connections; the garbage collector reports them.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(autouse=True, scope="module")
def unclosed_sockets_are_collected_here() -> Iterator[None]:
    """Collect them at the end of this module, not during a test of another one."""
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str) -> Path:
    """An empty data folder for every test, a small Shakespeare, and no real network."""
    monkeypatch.setattr(shakespeare, "DATA_FOLDER", tmp_path / "data")
    monkeypatch.setattr(shakespeare, "SIZE", len(RIGHT))
    monkeypatch.setattr(shakespeare, "SHA256", hashlib.sha256(RIGHT).hexdigest())
    monkeypatch.setattr(
        mock_corpus, "generate", lambda n_chars: "a short play\n" * (n_chars // 1_200_000)
    )
    monkeypatch.setattr(shakespeare, "URL", f"{server}/right")
    monkeypatch.delenv(shakespeare.MIRROR_VARIABLE, raising=False)
    monkeypatch.delenv(shakespeare.OFFLINE_VARIABLE, raising=False)
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "data"


def put(folder: Path, content: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / shakespeare.FILE_NAME
    path.write_bytes(content)
    return path


def test_the_file_in_the_repository_comes_first(data_folder, tmp_path, monkeypatch):
    path = put(data_folder, RIGHT)
    put(tmp_path / "mirror", RIGHT)
    monkeypatch.setenv(shakespeare.MIRROR_VARIABLE, str(tmp_path / "mirror"))
    found = load_corpus()
    assert (found.name, found.text, found.path) == ("shakespeare", RIGHT.decode(), path)
    assert found.entropy_bits_per_char is None


def test_the_classroom_mirror_comes_second(tmp_path, monkeypatch):
    path = put(tmp_path / "mirror", RIGHT)
    monkeypatch.setenv(shakespeare.MIRROR_VARIABLE, str(tmp_path / "mirror"))
    assert load_corpus().path == path


def test_the_download_comes_third_and_is_kept(data_folder, monkeypatch):
    first = load_corpus()
    assert first.path == data_folder / shakespeare.FILE_NAME
    assert "downloaded" in first.origin
    monkeypatch.setattr(shakespeare, "URL", "http://127.0.0.1:9/closed")
    second = load_corpus()
    assert second.text == first.text == RIGHT.decode()
    assert "downloaded" not in second.origin


def test_the_mock_corpus_comes_last_and_says_why(data_folder, tmp_path, monkeypatch, server):
    monkeypatch.setattr(shakespeare, "URL", f"{server}/nowhere")
    monkeypatch.setenv(shakespeare.MIRROR_VARIABLE, str(tmp_path))
    found = load_corpus()
    assert (found.name, found.text, found.path) == ("mock", "a short play\n", None)
    assert found.entropy_bits_per_char == mock_corpus.entropy_rate().bits_per_char
    assert re.fullmatch(r"mock corpus.*has no tiny_shakespeare.txt.*Not Found", found.origin)
    assert not (data_folder / shakespeare.FILE_NAME).exists()


def test_offline_means_that_nothing_is_downloaded(data_folder, monkeypatch):
    monkeypatch.setenv(shakespeare.OFFLINE_VARIABLE, "1")
    found = load_corpus()
    assert found.name == "mock"
    assert "TINY_TRANSFORMER_OFFLINE is set" in found.origin
    assert not data_folder.exists()


def test_the_mock_corpus_can_be_requested(data_folder):
    put(data_folder, RIGHT)
    assert load_corpus("mock").name == "mock"


def test_the_large_mock_corpus_is_longer_and_has_the_same_entropy(data_folder):
    small, large = load_corpus("mock"), load_corpus("mock-large")
    assert large.name == "mock-large" and len(large.text) > 3 * len(small.text)
    assert large.entropy_bits_per_char == small.entropy_bits_per_char


@pytest.mark.parametrize(
    ("content", "found"), [(WRONG_SIZE, "it has 49 bytes, not 48"), (WRONG_HASH, "its SHA-256 is")]
)
@pytest.mark.parametrize("place", ["data", "mirror"])
def test_a_wrong_file_is_refused_by_name(tmp_path, monkeypatch, place, content, found):
    path = put(tmp_path / place, content)
    monkeypatch.setenv(shakespeare.MIRROR_VARIABLE, str(tmp_path / "mirror"))
    with pytest.raises(CourseError) as refused:
        load_corpus()
    assert str(refused.value).startswith(f"{path} is not Tiny Shakespeare: {found}")
    assert "delete or replace it" in str(refused.value)


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        ("long", "it has 49 bytes, not 48"),
        ("other", "its SHA-256 is"),
        ("cut", "it has 20 bytes, not 48|broke|IncompleteRead"),
        ("missing", "Not Found"),
    ],
)
def test_a_wrong_download_leaves_the_old_file_and_no_other(tmp_path, server, page, reason):
    target = tmp_path / "text.txt"
    target.write_bytes(b"as it was")
    with pytest.raises(CourseError, match=reason) as refused:
        download_shakespeare(target, f"{server}/{page}")
    assert "\n" not in str(refused.value)
    assert target.read_bytes() == b"as it was"
    assert list(tmp_path.iterdir()) == [target]


def test_a_download_creates_its_folder(tmp_path, server):
    target = tmp_path / "new" / "folder" / "text.txt"
    assert download_shakespeare(target, f"{server}/right") == target
    assert target.read_bytes() == RIGHT
    assert list(target.parent.iterdir()) == [target]


def test_a_download_that_cannot_be_written_is_an_error_of_one_line(tmp_path, server):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(CourseError, match="cannot write"):
        download_shakespeare(tmp_path / "file" / "text.txt", f"{server}/right")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/closed", "not a url"])
def test_a_dead_address_is_an_error_of_one_line(tmp_path, url):
    with pytest.raises(CourseError, match="cannot download"):
        download_shakespeare(tmp_path / "text.txt", url)


def test_a_silent_server_does_not_block(tmp_path, monkeypatch):
    monkeypatch.setattr(shakespeare, "SILENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never answers
        begin = time.monotonic()
        with pytest.raises(CourseError, match="timed out"):
            download_shakespeare(tmp_path / "x", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - begin < 3


def test_a_slow_name_server_does_not_block(tmp_path, monkeypatch):
    released = threading.Event()

    def never_resolves(*_: object, **__: object) -> None:
        released.wait(10)
        raise OSError("too late")

    monkeypatch.setattr(shakespeare, "SILENCE", 0.2)
    monkeypatch.setattr(shakespeare.urllib.request, "urlopen", never_resolves)
    with pytest.raises(CourseError, match=r"no answer within"):
        download_shakespeare(tmp_path / "text.txt")
    released.set()


def test_the_program_downloads_or_says_why_it_cannot(data_folder, monkeypatch, capsys, server):
    monkeypatch.setattr("sys.argv", ["corpus", "--download"])
    corpus.main()
    assert capsys.readouterr().out.startswith(f"[OK] {data_folder / shakespeare.FILE_NAME} is")
    put(data_folder, WRONG_SIZE)
    with pytest.raises(CourseError, match="is not Tiny Shakespeare"):
        corpus.main()


def test_a_file_is_read_without_its_byte_order_mark_and_windows_line_ends(tmp_path):
    path = tmp_path / "my text.txt"
    path.write_bytes("\ufeffÄpfel\r\nund\rBirnen\n".encode())
    found = load_corpus(str(path))
    assert (found.name, found.text) == ("my text", "Äpfel\nund\rBirnen\n")
    assert found.path == path


def test_for_a_missing_file_the_closest_name_is_suggested(tmp_path):
    (tmp_path / "sonnets.txt").write_text("x", encoding="utf-8")
    with pytest.raises(UsageError, match=r"sonets.txt \(did you mean 'sonnets.txt'\?\)"):
        load_corpus(str(tmp_path / "sonets.txt"))
    with pytest.raises(UsageError, match=r"did you mean 'shakespeare'\?"):
        load_corpus("shakespear")


def test_a_folder_and_an_empty_file_are_refused(tmp_path):
    with pytest.raises(UsageError, match="is a folder"):
        load_corpus(str(tmp_path))
    (tmp_path / "empty.txt").touch()
    with pytest.raises(CourseError, match="is empty"):
        load_corpus(str(tmp_path / "empty.txt"))


def test_a_text_that_is_not_utf8_is_refused_with_the_byte(tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes("caf\u00e9".encode("latin-1"))
    with pytest.raises(CourseError, match=r"not UTF-8 text \(byte 0xe9 at offset 3\)"):
        load_corpus(str(path))


def test_an_unreadable_file_is_named(tmp_path, monkeypatch):
    def locked(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "locked.txt").touch()
    monkeypatch.setattr(Path, "read_bytes", locked)  # no permission bit stops a superuser
    with pytest.raises(CourseError, match=r"cannot read .*locked\.txt: Permission denied"):
        load_corpus(str(tmp_path / "locked.txt"))


@pytest.mark.parametrize("n", [2, 10, 11, 1003])
def test_the_last_tenth_is_kept_for_validation(n):
    text = "".join(chr(97 + i % 26) for i in range(n))
    train, val = split_text(text)
    assert len(train) == int(0.9 * n)
    assert train + val == text


def test_a_text_that_cannot_be_split_is_refused():
    for text in ("", "a"):
        with pytest.raises(CourseError, match="too short"):
            split_text(text)
    for fraction in (0.0, 1.0, -0.1, float("nan")):
        with pytest.raises(UsageError, match="between 0 and 1"):
            split_text("a longer text", fraction)


def test_the_simple_sequences_are_as_the_readme_describes_them():
    folder = Path(__file__).parents[2] / "data"
    text = (folder / "simple_sequences.txt").read_bytes().decode("ascii")
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert f"simple sequences | {len(text):,} characters, {len(set(text))} different" in readme
    blocks = [block.splitlines() for block in text.split("\n\n")]
    examples = re.findall(r"^\| \w+ \| `(.+?)` \|", readme, re.M)
    assert len(examples) == len(blocks) == 6
    assert all(example in block for example, block in zip(examples, blocks, strict=True))
    _, alphabet, repetition, copies, reversals, brackets = blocks
    assert all(len(set(line)) == len(line) == 26 for line in alphabet)
    assert all(len(set(line)) <= 4 and len(line) == 24 for line in repetition)
    assert all(line.split("=")[0] == line.split("=")[1] for line in copies)
    assert all(line.split(">")[0] == line.split(">")[1][::-1] for line in reversals)
    for line in brackets:
        while "()" in line or "[]" in line:
            line = line.replace("()", "").replace("[]", "")
        assert line == ""


# --- reading in pieces ---


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_the_joined_pieces_are_the_text(tmp_path: Path, size: int) -> None:
    path = tmp_path / "odd.txt"
    path.write_bytes("\ufeffÄpfel\r\nund\r Birnen\r\r\n€ \U0001f600\r".encode())
    assert "".join(read_pieces(path, size)) == load_corpus(str(path)).text


@pytest.mark.parametrize("data", [b"abc\xff", b"caf\xc3"], ids=["no byte of UTF-8", "cut in two"])
def test_pieces_that_are_not_utf_8_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes(data)
    with pytest.raises(CourseError, match=r"is not UTF-8 text \(byte 0x(ff|c3)\)"):
        list(read_pieces(path, 2))


def test_the_validation_part_of_a_large_text_is_limited() -> None:
    assert train_length(1000) == 900
    assert train_length(1000, largest_val=50) == 950
    assert train_length(1000, largest_val=500) == 900


# --- a user without a home folder ---


@pytest.mark.skipif(os.name == "nt", reason="Windows derives any home folder from the user's own")
@pytest.mark.parametrize("name", ["~no-such-user-here/text.txt", "~/text.txt"])
def test_without_a_home_folder_one_line_asks_for_the_full_path(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_entry(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", no_entry)
    with pytest.raises(UsageError, match=r"^~.*: no home folder is known for '~.*write the full"):
        load_corpus(name)


def test_the_program_downloads_without_any_package(tmp_path: Path) -> None:
    """A shell script starts it with any Python; it must not need one of the packages."""
    root = Path(corpus.__file__).parents[1]
    env = {"TINY_TRANSFORMER_OFFLINE": "1", "TINY_TRANSFORMER_DATA": str(tmp_path), "PATH": ""}
    command = [sys.executable, "-S", "-m", "utils.corpus", "--download"]
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, encoding="utf-8")
    found = (root / "data" / "tiny_shakespeare.txt").exists()
    assert done.returncode == (0 if found else 1)
    assert found or done.stderr == (
        "error: TINY_TRANSFORMER_OFFLINE is set, so nothing is downloaded\n"
    )
