"""The exact package versions of every image: `images.lock.yml` of a deployment repo. How it is made: pinning.py.

The lock says, for each image name and suite, which versions its layer installs over the layer below. It is
committed, so an image is the same set of packages for everybody, and its tag is known without asking a
mirror. A build needs it; a plan does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reclass_model.errors import OperatorError
from reclass_model.repository import write_atomically

LOCK_COMMAND = "ostack-k8s images lock"
_HEADER = (
    f"# The exact package versions of every image, written by `{LOCK_COMMAND}`. Commit it; do not edit it.\n"
)


@dataclass(frozen=True)
class Lock:
    """Image name → suite → package → version."""

    images: Mapping[str, Mapping[str, Mapping[str, str]]] = field(default_factory=dict)

    def versions(self, name: str, suite: str) -> Mapping[str, str] | None:
        """What the layer of this image and suite installs; None when that is not locked."""
        return self.images.get(name, {}).get(suite)

    @classmethod
    def read(cls, path: Path) -> Lock:
        """The lock in that file, empty when there is none. OperatorError E504 when it cannot be read."""
        import yaml

        try:
            content: Any = yaml.load(path.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except FileNotFoundError:
            return cls()
        except (OSError, UnicodeError, yaml.YAMLError) as error:
            raise OperatorError.unreadable(
                error, str(path), "E504", f"remove it and run `{LOCK_COMMAND}`"
            ) from None
        images = content.get("images") if isinstance(content, dict) else None
        if not isinstance(images, dict) or not all(isinstance(suites, dict) for suites in images.values()):
            raise OperatorError(
                "not a lock of images",
                code="E504",
                file=str(path),
                hint=f"remove it and run `{LOCK_COMMAND}`",
            )
        return cls(images)

    def write(self, path: Path) -> None:
        """Replace the file in one step."""
        import yaml

        plain = {
            name: {suite: dict(packages) for suite, packages in suites.items()}
            for name, suites in self.images.items()
        }
        text = _HEADER + yaml.safe_dump({"images": plain}, sort_keys=True, default_flow_style=False)
        write_atomically(path, text)
