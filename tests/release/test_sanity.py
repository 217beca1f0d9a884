import subprocess
import sys
from pathlib import Path

import pytest

from quantum_trader.core.errors import ReleaseError
from quantum_trader.release.host import LocalHost
from quantum_trader.release.host_settings import HostSettings
from quantum_trader.release.sanity import check_program, check_repository

PROGRAM = """
print('"' + "0" * 64 + '"')
"""


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet", "--bare", "remote")
    git(tmp_path, "init", "--quiet", "here")
    here = tmp_path / "here"
    (here / "file").write_text("one")
    git(here, "add", "file")
    git(here, "commit", "--quiet", "-m", "one")
    git(here, "remote", "add", "origin", str(tmp_path / "remote"))
    git(here, "push", "--quiet", "origin", "HEAD:main")
    return here


def test_a_pushed_commit_of_a_clean_tree_is_released(repository: Path) -> None:
    first = git(repository, "rev-parse", "HEAD")
    assert check_repository(repository, "origin", "main") == first
    # The remote may be further on.
    (repository / "file").write_text("two")
    git(repository, "commit", "--quiet", "-am", "two")
    git(repository, "push", "--quiet", "origin", "HEAD:main")
    git(repository, "checkout", "--quiet", first)
    assert check_repository(repository, "origin", "main") == first


def test_what_nobody_else_can_see_is_not_released(repository: Path) -> None:
    (repository / "file").write_text("changed")
    with pytest.raises(ReleaseError, match="1 files are not committed"):
        check_repository(repository, "origin", "main")
    git(repository, "commit", "--quiet", "-am", "not pushed")
    with pytest.raises(ReleaseError, match="is not on origin/main; push it first"):
        check_repository(repository, "origin", "main")
    with pytest.raises(ReleaseError, match="git fetch: "):
        check_repository(repository, "origin", "nowhere")


def test_another_program_on_the_host_is_refused(tmp_path: Path) -> None:
    host, settings = LocalHost(sys.executable), HostSettings(engine_python=sys.executable)
    assert len(check_program(host, settings, "")) == 64
    other = tmp_path / "python"
    other.write_text(f"#!{sys.executable}\n{PROGRAM}")
    other.chmod(0o755)
    with pytest.raises(ReleaseError, match="another version of the program is installed there"):
        check_program(host, HostSettings(engine_python=str(other)), "")


def test_a_checkout_at_another_commit_is_refused(repository: Path) -> None:
    host = LocalHost(sys.executable)
    settings = HostSettings.model_validate({"engine_python": sys.executable, "checkout": str(repository)})
    commit = git(repository, "rev-parse", "HEAD")
    assert check_program(host, settings, commit)
    with pytest.raises(ReleaseError, match="its checkout is at"):
        check_program(host, settings, "f" * 40)
    (repository / "file").write_text("changed")
    with pytest.raises(ReleaseError, match="files of its checkout"):
        check_program(host, settings, commit)
