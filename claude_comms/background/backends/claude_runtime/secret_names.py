"""What looks like a secret inside a module's path: never read, whatever is granted.

Names are compared without regard to case, for each part of a path below the granted directory, before and after
links are followed. `docs/claude-code.md` shows this list to users.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import PurePath

__all__ = ["SECRET_NAMES", "deny_rules", "secret_in"]

SECRET_NAMES = (
    ".env", ".env.*", "*.env", ".envrc",
    "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "*.ppk", "*.gpg", "*.asc",
    "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*",
    ".netrc", "_netrc", ".pgpass", ".my.cnf", ".npmrc", ".pypirc", ".htpasswd", ".git-credentials",
    ".ssh", ".gnupg", ".aws", ".azure", ".gcloud", ".kube", ".docker", ".terraform.d",
    "credentials", "credentials.json", ".credentials", ".credentials.*", "secrets", ".secrets",
    "secrets.*", "secret.*", "*.secret", "*.secrets", "*api_key*", "*apikey*", "*api-key*", "*private_key*",
    "service-account*.json", "service_account*.json", "client_secret*.json",
    "*.tfstate", "*.tfstate.*", "*.tfvars", ".vault-token", ".vault_pass*",
    ".git",
)  # fmt: skip
"""Patterns for one part of a path, a directory's name or a file's; all below such a directory is secret too.

None may hold a ``/``: there `*` means one thing to us and another to Claude Code. All of ``.git`` is left out, because
tokens stand in remotes' addresses, of worktrees and submodules too, and in what was once committed.
"""


def secret_in(path: PurePath) -> str | None:
    """The pattern that a part of `path` matches, or None. Give it relative to the granted directory."""
    for part in path.parts:
        for pattern in SECRET_NAMES:
            if fnmatchcase(part.lower(), pattern):
                return pattern
    return None


def deny_rules() -> list[str]:
    """The same as rules for Claude Code, which applies them to the files that Grep and Glob walk over as well."""
    return [f"Read(**/{pattern}{below})" for pattern in SECRET_NAMES for below in ("", "/**")]
