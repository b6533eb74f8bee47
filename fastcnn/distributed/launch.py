"""Whether an MPI launcher started this process with others, as the environment says."""

import os

#: Number of processes, as the launchers of MPICH and Intel MPI, Open MPI, MVAPICH and Slurm say it.
#: Slurm's other variables also stand in the environment of a batch script itself.
SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")


def launched_size() -> int:
    """Processes that the launcher started, 1 without one; an ordinary run never loads MPI."""
    sizes = [os.environ.get(name, "") for name in SIZES]
    return max([int(size) for size in sizes if size.isdigit()], default=1)
