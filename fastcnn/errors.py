"""The exceptions that fastcnn raises, one class per kind of problem."""

__all__ = [
    "CheckpointError",
    "ConfigurationError",
    "DataError",
    "DataUnavailableError",
    "FastcnnError",
    "GradientError",
    "IncompatibleNumbaError",
    "MissingExtraError",
    "NonFiniteError",
    "ProgramError",
    "RankError",
    "RunWriteError",
    "ShapeError",
]


def counted(count: int, noun: str) -> str:
    """A number and what it counts: ``1 batch``, ``1,024 batches``."""
    plural = f"{noun}es" if noun.endswith(("tch", "ss")) else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"


class FastcnnError(Exception):
    """Base of every error that fastcnn raises on purpose."""


class ShapeError(FastcnnError, ValueError):
    """Shapes of arrays or layers do not match; the message names both."""

    #: Number of a model's nodes that accepted their input before one refused it.
    accepted = 0


class ConfigurationError(FastcnnError, ValueError):
    """An option or argument has an invalid value."""


class RankError(FastcnnError):
    """Processes of one run differ, or one of them failed: all raise it, naming the rank."""


class DataError(FastcnnError, ValueError):
    """Data are missing, corrupt, truncated or not of the claimed format."""


class DataUnavailableError(DataError):
    """A data set is not in any local folder and cannot be downloaded."""


class CheckpointError(FastcnnError):
    """A saved run or state cannot be read, or does not belong to this model."""


class RunWriteError(FastcnnError, OSError):
    """A run's folder can no longer be written, such as on a full disk; its files are intact."""


class ProgramError(FastcnnError):
    """A program of the engine does not match the arrays it would run on; nothing was run."""


class NonFiniteError(FastcnnError, ArithmeticError):
    """A loss, a gradient, weights or outputs are NaN or infinite."""


class GradientError(FastcnnError, AssertionError):
    """A gradient disagrees with finite differences."""


class MissingExtraError(FastcnnError, ImportError):
    """A package required by this feature is not installed; the message names the extra."""


class IncompatibleNumbaError(FastcnnError, ImportError):
    """Compiling fails with the installed numba, a version that fastcnn is not tested with."""


def cause(error: BaseException) -> str:
    """The cause of an error, without the number and path in the text of an OSError."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


def sentence(error: BaseException) -> str:
    """An expected error as shown to the user."""
    if isinstance(error, MemoryError):
        return f"not enough memory ({error}): a smaller batch or smaller images need less"
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename} cannot be read or written ({error.strerror})"
    return cause(error)
