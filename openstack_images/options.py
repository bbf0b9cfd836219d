"""Which oslo.config options a package image knows: asked of its packages, in a container of it.

What comes out is shipped with the class library (`reclass_model.options`), so that `validate` needs no image.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib import resources

from openstack_images.definition import PackageImage
from openstack_images.package import Builder
from reclass_model.options import Namespaces


def read_options(
    image: PackageImage, builder: Builder, plugins: Mapping[str, str], progress: Callable[[str], None]
) -> Namespaces:
    """What the image, which the builder has, says of itself. OperatorError E51x.

    `plugins`: option → the entry points whose plugins bring further options to each section that has it.
    """
    program = resources.files(__package__).joinpath("list_options.py").read_text()
    arguments = [f"{option}={group}" for option, group in sorted(plugins.items())]
    answer = json.loads(builder.ask(image, program, *arguments))
    for name, reason in sorted(answer["failed"].items()):
        progress(f"{image}: the options of {name} cannot be read: {reason}")
    namespaces: Namespaces = answer["namespaces"]
    return namespaces
