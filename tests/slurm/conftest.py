"""These tests submit jobs, and only to the Slurm that ``scripts/with_slurm.sh`` has started."""

import os

collect_ignore_glob = [] if os.environ.get("SLURM_OF_ITS_OWN") else ["test_*.py"]
