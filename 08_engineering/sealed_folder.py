"""A folder of files that is there as a whole or not at all, and can prove that it is unharmed.

It is written under a temporary name: each file is forced to the disk, then manifest.json with the
SHA-256 of each, then the folder's own list of names; then the folder takes its name in one step. A
crash at any instant leaves a temporary folder at worst, which nobody reads. Whoever reads the
folder compares every file with the manifest first.

`failpoint` marks each boundary: a test makes the program die there.
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
    """A folder is not what was written; the message names the file and the fault."""


# --- writing ---


def write_sealed(folder: Path, files: dict[str, bytes], owner: str) -> None:
    """Make `folder` hold exactly these files, signed by `owner`; its parent must exist.

    Raises OSError (disk full, no permission) and leaves nothing behind then.
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
    """The hashes of the files, and a hash of that: one flipped bit anywhere shows."""
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    said = {"format": FORMAT, "owner": owner, "files": hashes}
    return json.dumps({**said, "sha256": digest_of(said)}, indent=1).encode()


def digest_of(said: dict[str, Any]) -> str:
    """The hash of a manifest's own words."""
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


# --- reading ---


def read_sealed(folder: Path, owner: str) -> dict[str, bytes]:
    """The files of a folder, every one verified. Raises DamagedError."""
    said = read_manifest(folder)
    if said["owner"] != owner:
        raise DamagedError(f"{folder.name}/{MANIFEST} is of another run, {said['owner']}")
    return {name: verified(folder / name, digest) for name, digest in said["files"].items()}


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder, if it is as it was written. Raises DamagedError."""
    where = f"{folder.name}/{MANIFEST}"
    try:
        said = json.loads((folder / MANIFEST).read_bytes())
        digest = said.pop("sha256")
        sound = said["format"] == FORMAT and digest == digest_of(said)
    except FileNotFoundError:
        raise DamagedError(f"{where} is missing") from None
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise DamagedError(f"{where} is damaged: {error!r}") from None
    if not sound:
        raise DamagedError(f"{where} is damaged: its own hash differs")
    return said


def verified(path: Path, digest: str) -> bytes:
    """The bytes of a file whose hash is as expected. Raises DamagedError."""
    where = f"{path.parent.name}/{path.name}"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DamagedError(f"{where} is missing") from None
    except OSError as error:
        raise DamagedError(f"{where} cannot be read: {error.strerror}") from None
    if hashlib.sha256(data).hexdigest() != digest:
        what = "is empty" if not data else f"({len(data):,} bytes) is not what was written"
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
