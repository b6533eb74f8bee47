"""Print the oldest versions that pyproject.toml allows, one requirement per line.

Arguments name extras whose requirements are printed as well.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
BOUND = re.compile(r"^([\w.-]+)(?:\[[\w,]+\])?>=([\w.]+)[^;]*(;.*)?$")


def oldest(requirements: list[str]) -> Iterator[str]:
    """Each requirement with ``==`` instead of ``>=``, except those of fastcnn's own extras."""
    for requirement in requirements:
        if requirement.startswith("fastcnn["):
            continue
        found = BOUND.match(requirement)
        if not found:
            raise SystemExit(f"{requirement!r} in {PROJECT.name} has no lower bound")
        name, version, marker = found.groups()
        yield f"{name}=={version}{marker or ''}"


def main() -> None:
    """Print the requirements of the package and of the extras that the arguments name."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    wanted = list(project["dependencies"])
    for extra in sys.argv[1:]:
        wanted += project["optional-dependencies"][extra]
    print("\n".join(oldest(wanted)))


if __name__ == "__main__":
    main()
