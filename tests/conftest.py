"""What every test starts from: git knows an author, whatever the developer's own configuration says."""

from __future__ import annotations

import os

os.environ.update(
    GIT_CONFIG_GLOBAL=os.devnull,
    GIT_AUTHOR_NAME="tests",
    GIT_AUTHOR_EMAIL="tests@localhost",
    GIT_COMMITTER_NAME="tests",
    GIT_COMMITTER_EMAIL="tests@localhost",
)
