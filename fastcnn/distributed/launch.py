"""Whether this process is one of several that an MPI launcher started."""

import os
import sys

#: Number of processes, as the launchers of MPICH and Intel MPI, Open MPI, MVAPICH and Slurm say it.
SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_NTASKS")


def is_launched() -> bool:
    """Whether MPI should be started: a launcher started several processes, or MPI runs already.

    It asks the environment alone; an ordinary run never loads MPI. Slurm's variable also stands in
    the environment of a batch script itself, so that it counts only beside a rank of ``srun``.
    """
    if "mpi4py.MPI" in sys.modules:
        return True
    for name in SIZES:
        size = os.environ.get(name, "")
        if name == "SLURM_NTASKS" and "SLURM_STEP_ID" not in os.environ:
            continue
        if size.isdigit() and int(size) > 1:
            return True
    return False
