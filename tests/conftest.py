"""What every test starts from: git knows an author, whatever the developer's own configuration says; an interruption
interrupts, also where a shell started the tests in the background and told them to ignore it."""

from __future__ import annotations

import os
import signal

os.environ.update(
    GIT_CONFIG_GLOBAL=os.devnull,
    GIT_AUTHOR_NAME="tests",
    GIT_AUTHOR_EMAIL="tests@localhost",
    GIT_COMMITTER_NAME="tests",
    GIT_COMMITTER_EMAIL="tests@localhost",
)

signal.signal(signal.SIGINT, signal.default_int_handler)
