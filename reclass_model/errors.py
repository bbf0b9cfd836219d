"""What can be wrong, in words for an operator.

Every package raises `OperatorError` for anything a person can mend; only `cli/` prints it. The codes are listed in
`reclass_model.codes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: what, where, and what would be right."""

    code: str  #: "E101"; warnings "W1xx"
    message: str  #: what is wrong, with the value
    node: str | None = None
    path: str | None = None  #: pillar path, "kubernetes:common:version"
    file: str | None = None  #: relative to the root of the deployment repo
    line: int | None = None  #: 1-based
    hint: str | None = None  #: what would be right, or what to do

    @property
    def place(self) -> str:
        """`file:line`, `file`, or nothing."""
        if self.file is None:
            return ""
        return self.file if self.line is None else f"{self.file}:{self.line}"

    def __str__(self) -> str:
        head = " ".join(part for part in (self.code, self.place) if part)
        return f"{head}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class OperatorError(Exception):
    """Something an operator can mend. `.problems` holds at least one entry."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "E000",
        file: str | None = None,
        line: int | None = None,
        hint: str | None = None,
        problems: Sequence[Problem] = (),
    ) -> None:
        super().__init__(message)
        self.problems: tuple[Problem, ...] = tuple(problems) or (
            Problem(code, message, file=file, line=line, hint=hint),
        )

    @property
    def code(self) -> str:
        return self.problems[0].code

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)

    @classmethod
    def of(cls, *problems: Problem) -> OperatorError:
        """The error that reports these problems (at least one)."""
        return cls(problems[0].message, problems=problems)

    @classmethod
    def unreadable(
        cls, error: Exception, file: str, code: str = "E101", hint: str | None = None
    ) -> OperatorError:
        """A file that a YAML parser, or the operating system, could not read: the line and the reason."""
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or getattr(error, "reason", None)
        if "expected ',' or" in str(reason):  # the parser notices far behind the bracket that is open
            mark = getattr(error, "context_mark", None) or mark
        if isinstance(error, OSError):
            message = f"cannot be read: {error.strerror}"
        elif isinstance(error, UnicodeError):
            message = f"not text in UTF-8: {reason}"
        else:
            message = f"not valid YAML: {reason or error}"
        return cls(message, code=code, file=file, line=mark.line + 1 if mark else None, hint=hint)
