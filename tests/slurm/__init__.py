"""scl-sweep and the recipe for nodes on a real Slurm: `make test-slurm`."""
