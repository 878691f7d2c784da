"""Print which checkpoint of a training is best on STS-B's dev set.

usage: python examples/infocse/best.py SCORES EMBEDDING

SCORES is what scl-evaluate --sts --json wrote of the checkpoints, EMBEDDING is cls or mean.
"""

import json
import sys
from pathlib import Path

from scl_fairseq.inference.sts_files import STS_B_DEV
from scl_fairseq.utf8 import begin_command


def main() -> None:
    """Print its path."""
    begin_command()
    if len(sys.argv) != 3:
        sys.exit(__doc__.split("\n\n")[1])
    found = json.loads(Path(sys.argv[1]).read_text("utf-8"))["checkpoints"]
    of_kind = [one for one in found if one["embedding"] == sys.argv[2]]
    if any(STS_B_DEV not in one["spearman"] for one in of_kind) or not of_kind:
        sys.exit(f"{sys.argv[1]} has no {sys.argv[2]} scores on {STS_B_DEV}")
    print(max(of_kind, key=lambda one: one["spearman"][STS_B_DEV])["path"])


if __name__ == "__main__":
    main()
