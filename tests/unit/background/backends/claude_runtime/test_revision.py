"""The git revision, read without running git."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from claude_comms.background.backends.claude_runtime.revision import git_revision

if TYPE_CHECKING:
    from pathlib import Path

A, B = "a" * 40, "b" * 40


def test_a_path_without_git_has_none(tmp_path: Path) -> None:
    assert git_revision(tmp_path) is None


def test_a_detached_head_is_the_revision_also_from_below(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text(f"{A}\n")
    (tmp_path / "sub" / "deep").mkdir(parents=True)
    assert git_revision(tmp_path / "sub" / "deep") == A


def test_a_branch_is_followed_and_a_loose_reference_wins_over_a_packed_one(tmp_path: Path) -> None:
    git = tmp_path / ".git"
    git.mkdir()
    (git / "HEAD").write_text("ref: refs/heads/feature/x\n")
    (git / "packed-refs").write_text(f"# pack-refs with: peeled\n{A} refs/heads/feature/x\n^{B}\n")
    assert git_revision(tmp_path) == A
    (git / "refs" / "heads" / "feature").mkdir(parents=True)
    (git / "refs" / "heads" / "feature" / "x").write_text(f"{B}\n")
    assert git_revision(tmp_path) == B


def test_a_linked_worktree_is_followed_to_its_repository(tmp_path: Path) -> None:
    main, tree = tmp_path / "main", tmp_path / "tree"
    (main / ".git" / "worktrees" / "tree").mkdir(parents=True)
    (main / ".git" / "worktrees" / "tree" / "HEAD").write_text("ref: refs/heads/x\n")
    (main / ".git" / "worktrees" / "tree" / "commondir").write_text("../..\n")
    (main / ".git" / "packed-refs").write_text(f"{A} refs/heads/x\n")
    tree.mkdir()
    (tree / ".git").write_text(f"gitdir: {main / '.git' / 'worktrees' / 'tree'}\n")
    assert git_revision(tree) == A


@pytest.mark.parametrize(
    "head", ["", "nonsense", "ref: refs/heads/../../../secret", "ref: /etc/passwd", "ref: refs/heads/none", "\0"]
)
def test_a_head_that_leads_nowhere_or_out_is_no_revision(head: str, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text(head)
    (tmp_path / "secret").write_text(A)
    assert git_revision(tmp_path) is None


def test_it_agrees_with_git_itself(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.invalid", *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "first")
    assert git_revision(tmp_path) == git("rev-parse", "HEAD")
    git("pack-refs", "--all")
    assert git_revision(tmp_path) == git("rev-parse", "HEAD")


@pytest.mark.parametrize(
    "branch",
    ["fix#12", "a=b", "user's", "rel,1", "(x)", "100%", "a&b|c;d", "$x!", '"q"', "{b}", "é", "a\u00a0", "a\u2028b"],
)
def test_any_branch_name_that_git_allows_is_followed(branch: str, tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.invalid", *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "first")
    git("checkout", "-q", "-b", branch)
    assert git_revision(tmp_path) == git("rev-parse", "HEAD")
    git("pack-refs", "--all")
    assert git_revision(tmp_path) == git("rev-parse", "HEAD")


def test_a_path_that_cannot_be_looked_at_has_none(tmp_path: Path) -> None:
    assert git_revision(tmp_path / ("x" * 300) / "module") is None
    assert git_revision(tmp_path / "\0") is None


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable to root")
def test_a_module_below_an_unreadable_directory_has_none(tmp_path: Path) -> None:
    (tmp_path / "closed" / "module").mkdir(parents=True)
    (tmp_path / "closed").chmod(0)
    try:
        assert git_revision(tmp_path / "closed" / "module") is None
    finally:
        (tmp_path / "closed").chmod(0o700)
