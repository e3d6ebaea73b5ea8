"""Where a newer release comes from: a folder, a .zip, or the history of a git repository."""

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tools.updating.git_history import changed_paths, fetch, is_repository, read_blobs
from tools.updating.plan import Files
from utils.errors import CourseError, UsageError
from utils.grader.exercises import lessons
from utils.grader.stubs import make_stubs

SIGNS = ("pyproject.toml", "tools/learn.py", "utils/grader/exercises.py")  # of a release
LARGEST = 200_000_000  # bytes of an unpacked .zip; the course has a tenth of that
SKIPPED = {".git", ".venv", ".progress", "__pycache__", ".ipynb_checkpoints"}


@dataclass(frozen=True)
class Release:
    """A newer release: its version, its files, and the release that ours comes from."""

    version: str
    files: Files
    base: Files
    commit: str = ""
    base_commit: str = ""

    @property
    def title(self) -> str:
        return f"{self.version} ({self.commit[:7]})" if self.commit else self.version


def find_release(root: Path, source: str | None) -> Release:
    """The release that `--from` names, or that this clone's own remote has."""
    path = Path(source) if source else None
    if path is not None and path.suffix.lower() == ".zip":
        return plain_release(root, zip_files(path))
    if path is not None and path.is_dir() and not (path / ".git").exists():
        return plain_release(root, folder_files(path))
    if not is_repository(root):
        where = "this folder is not a git repository, so say where the release is"
        raise UsageError(f"{where}: --from FOLDER or --from FILE.zip")
    return git_release(root, str(path.resolve()) if path and path.is_dir() else source)


def plain_release(root: Path, files: Files) -> Release:
    """A release without history: our stubs, made from our solutions, stand for the base."""
    if not all(sign in files for sign in SIGNS):
        raise CourseError(f"that is not a release of this course: it has no {SIGNS[1]}")
    base = {
        lesson.file.relative_to(root).as_posix(): "\n\n".join(make_stubs(lesson).values()).encode()
        for lesson in lessons(root)
    }
    return Release(version_of(files), files, base)


def folder_files(folder: Path) -> Files:
    """Every file of a release in a folder, but environments, caches and what training writes."""
    found = {}
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder)
        if path.is_file() and not path.is_symlink() and is_of_release(place):
            found[place.as_posix()] = path.read_bytes()
    return found


def is_of_release(path: Path | PurePosixPath) -> bool:
    """Whether a release may hold this path: nothing that git ignores."""
    generated = {("09_capstone", "runs"), ("09_capstone", "checkpoints")}
    if path.parts[:2] in generated:
        return path.name == "README.md"
    return not SKIPPED.intersection(path.parts) and path.as_posix() != "data/tiny_shakespeare.txt"


def zip_files(path: Path) -> Files:
    """Every file of a release in a .zip, with or without one folder around it."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            if sum(info.file_size for info in infos) > LARGEST:
                raise CourseError(f"{path} is too large for a release of this course")
            names = [PurePosixPath(info.filename) for info in infos]
            around = {name.parts[0] for name in names if len(name.parts) > 1}
            cut = 1 if len(around) == 1 and all(len(name.parts) > 1 for name in names) else 0
            places = [PurePosixPath(*name.parts[cut:]) for name in names]
            if any(".." in place.parts or place.is_absolute() for place in places):
                raise CourseError(f"{path} has names that lead out of its folder")
            return {
                place.as_posix(): archive.read(info)
                for place, info in zip(places, infos, strict=True)
                if is_of_release(place)
            }
    except zipfile.BadZipFile:
        raise CourseError(f"{path} is not a .zip file, or damaged") from None


def version_of(files: Files) -> str:
    """The version in a release's pyproject.toml."""
    found = re.search(rb'^version = "([^"]+)"', files["pyproject.toml"], re.M)
    return found[1].decode() if found else "unknown"


def git_release(root: Path, source: str | None) -> Release:
    """Fetch the newest commit of a remote, and read what differs from where our history left it."""
    commit, base = fetch(root, source)
    paths = changed_paths(root, base, commit)
    files, old = (read_blobs(root, where, paths) for where in (commit, base))
    version = version_of(read_blobs(root, commit, ["pyproject.toml"]))
    return Release(version, files, old, commit, base)
