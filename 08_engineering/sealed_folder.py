"""A folder of files that is complete or absent, and whose integrity can be verified.

It is written under a temporary name: each file is flushed to disk, then manifest.json with the
SHA-256 of each, then the directory itself; finally the folder is renamed in one step. At worst, a
crash leaves a temporary folder, which is never read. Reading the folder compares every file with
the manifest first.

`failpoint` marks each boundary, so that a test can kill the program there.
"""

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from utils.errors import CourseError, run_program
from utils.failpoint import failpoint
from utils.files import sync_folder, write_through

FORMAT = "tiny-transformer-sealed-1"
MANIFEST = "manifest.json"


class DamagedError(CourseError):
    """A folder differs from what was written; the message names the file and the fault."""


# --- writing ---


def write_sealed(folder: Path, files: dict[str, bytes], owner: str) -> None:
    """Make `folder` contain exactly these files of `owner`; its parent must exist.

    Raises OSError (disk full, no permission) and then leaves nothing behind.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    temporary.mkdir()
    failpoint("sealed: folder made")
    try:
        for name, data in files.items():
            write_through(temporary / name, data, name)
        write_through(temporary / MANIFEST, manifest(files, owner), MANIFEST)
        sync_folder(temporary)
        failpoint("sealed: before rename")
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    failpoint("sealed: renamed")
    sync_folder(folder.parent)
    failpoint("sealed: named for good")


def manifest(files: dict[str, bytes], owner: str) -> bytes:
    """The hashes of the files, and a hash of the manifest: one flipped bit anywhere is noticed."""
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    body = {"format": FORMAT, "owner": owner, "files": hashes}
    return json.dumps({**body, "sha256": digest_of(body)}, indent=1).encode()


def digest_of(body: dict[str, Any]) -> str:
    """The hash of a manifest without its own hash."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


# --- reading ---


def read_sealed(folder: Path, owner: str) -> dict[str, bytes]:
    """The files of a folder, each verified. Raises DamagedError."""
    body = read_manifest(folder)
    if body["owner"] != owner:
        raise DamagedError(f"{folder.name}/{MANIFEST} belongs to another run, {body['owner']}")
    return {name: verified(folder / name, digest) for name, digest in body["files"].items()}


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder, verified. Raises DamagedError."""
    where = f"{folder.name}/{MANIFEST}"
    try:
        body = json.loads((folder / MANIFEST).read_bytes())
        digest = body.pop("sha256")
        intact = body["format"] == FORMAT and digest == digest_of(body)
    except FileNotFoundError:
        raise DamagedError(f"{where} is missing") from None
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise DamagedError(f"{where} is damaged: {error!r}") from None
    if not intact:
        raise DamagedError(f"{where} is damaged: its own hash does not match")
    return body


def verified(path: Path, digest: str) -> bytes:
    """The bytes of a file whose hash matches. Raises DamagedError."""
    where = f"{path.parent.name}/{path.name}"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DamagedError(f"{where} is missing") from None
    except OSError as error:
        raise DamagedError(f"{where} cannot be read: {error.strerror}") from None
    if hashlib.sha256(data).hexdigest() != digest:
        what = "is empty" if not data else f"({len(data):,} bytes) differs from what was written"
        raise DamagedError(f"{where} {what}")
    return data


def main() -> None:
    """Seal a folder, flip one bit in it, and try to read it."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "sealed"
        write_sealed(folder, {"poem.txt": b"Tyger Tyger, burning bright"}, "demo")
        print("sealed: ", read_sealed(folder, "demo"))
        data = bytearray((folder / "poem.txt").read_bytes())
        data[3] ^= 1
        (folder / "poem.txt").write_bytes(data)
        try:
            read_sealed(folder, "demo")
        except DamagedError as error:
            print("damaged:", error)


if __name__ == "__main__":
    run_program(main)
