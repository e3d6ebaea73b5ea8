"""What an update needs of git: the newest commit of a remote, files of commits, a merge commit."""

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tools.updating.plan import plan_update
from utils.errors import CourseError, UsageError


def git(root: Path, *args: str, data: bytes | None = None, index: Path | None = None) -> bytes:
    """The output of a git command. Raises CourseError with git's own last line."""
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    if index is not None:
        environment["GIT_INDEX_FILE"] = str(index)
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *args], input=data, capture_output=True, env=environment
        )
    except FileNotFoundError:
        raise CourseError("git is not installed: use --from FILE.zip") from None
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise CourseError(f"git {args[0]}: {lines[-1] if lines else 'failed'}")
    return done.stdout


def is_repository(root: Path) -> bool:
    """Whether the course's folder is the top of a git repository, and not a part of another one."""
    try:
        top = git(root, "rev-parse", "--show-toplevel").decode().strip()
    except CourseError:
        return False
    return Path(top).resolve() == root.resolve()


def fetch(root: Path, source: str | None) -> tuple[str, str]:
    """Fetch a remote's newest commit: (it, where our history left its).

    Without a source, the remote is upstream if there is one, else origin. Raises CourseError.
    """
    for name in ("MERGE_HEAD", "rebase-merge", "rebase-apply", "CHERRY_PICK_HEAD"):
        if (root / git(root, "rev-parse", "--git-path", name).decode().strip()).exists():
            raise CourseError("git is in the middle of a merge or rebase: finish that first")
    remotes = git(root, "remote").decode().split()
    source = source or next((name for name in ("upstream", "origin") if name in remotes), None)
    if source is None:
        raise UsageError("this repository has no remote, so say where the release is: --from URL")
    git(root, "fetch", "--quiet", source, "HEAD")
    commit = git(root, "rev-parse", "FETCH_HEAD").decode().strip()
    try:
        return commit, git(root, "merge-base", "HEAD", commit).decode().strip()
    except CourseError:
        raise CourseError(f"{source} has no common history with this repository") from None


def changed_paths(root: Path, old: str, new: str) -> list[str]:
    """The paths that differ between two commits."""
    output = git(root, "diff", "--name-only", "--no-renames", "-z", old, new)
    return [path for path in output.decode("utf-8", "surrogateescape").split("\0") if path]


def read_blobs(root: Path, commit: str, paths: list[str]) -> dict[str, bytes]:
    """What a commit holds at these paths; those that it doesn't have are left out."""
    wanted = "".join(f"{commit}:{path}\n" for path in paths).encode("utf-8", "surrogateescape")
    output = git(root, "cat-file", "--batch", data=wanted)
    found, at = {}, 0
    for path in paths:
        end = output.index(b"\n", at)
        head, at = output[at:end].split(), end + 1
        if head[-1] == b"missing":
            continue
        size = int(head[-1])
        found[path] = output[at : at + size]
        at += size + 1
    return found


def move_branch(root: Path, title: str, release: str, base: str) -> None:
    """Let the branch hold the release; own commits are joined with it in a merge commit.

    The working tree stays as it is.
    """
    head = git(root, "rev-parse", "HEAD").decode().strip()
    if head == base:
        git(root, "reset", "--quiet", "--mixed", release)
        return
    paths = changed_paths(root, base, head)
    old, own, new = (read_blobs(root, where, paths) for where in (base, head, release))
    # A path that the course left alone stays as it is committed here.
    both = [path for path in paths if old.get(path) != new.get(path)]
    plan = plan_update(old, own, new, both)
    committed = {path: plan.writes.get(path, own.get(path)) for path in paths}
    tree = write_tree(root, release, committed)
    author = [("-c", "user.name=learner"), ("-c", "user.email=learner@localhost")]
    known = git_setting(root, "user.email")
    options = [] if known else [part for pair in author for part in pair]
    message = f"Update the course to {title}"
    commit = git(root, *options, "commit-tree", tree, "-p", head, "-p", release, "-m", message)
    git(root, "reset", "--quiet", "--mixed", commit.decode().strip())


def git_setting(root: Path, name: str) -> str:
    try:
        return git(root, "config", name).decode().strip()
    except CourseError:
        return ""


def write_tree(root: Path, commit: str, files: Mapping[str, bytes | None]) -> str:
    """A tree like that of a commit but for these files; None removes one."""
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        git(root, "read-tree", commit, index=index)
        for path, data in files.items():
            if data is None:
                git(root, "rm", "--quiet", "--cached", "--ignore-unmatch", "--", path, index=index)
                continue
            blob = git(root, "hash-object", "-w", "--stdin", data=data).decode().strip()
            entry = f"100644,{blob},{path}"
            git(root, "update-index", "--add", "--cacheinfo", entry, index=index)
        return git(root, "write-tree", index=index).decode().strip()
