"""Print a project's requirements, so that an image can install them before its code."""

import sys
import tomllib
from pathlib import Path

print(*tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["project"]["dependencies"], sep="\n")
