"""The exceptions that fastcnn raises, so that a caller can catch them by meaning."""


class FastcnnError(Exception):
    """Base of every error that fastcnn raises on purpose."""


class ShapeError(FastcnnError, ValueError):
    """An array or layer geometry does not fit: the message names both shapes."""


class ConfigurationError(FastcnnError, ValueError):
    """An option or argument has a value that makes no sense."""


class RankError(FastcnnError):
    """Processes of one training differ, or one of them failed: all raise it, naming the rank."""


class DataError(FastcnnError, ValueError):
    """Data are missing, corrupt, truncated or not what they claim to be."""


class DataUnavailableError(DataError):
    """A data set is in no local folder and cannot be downloaded."""


class CheckpointError(FastcnnError):
    """A saved run or state cannot be read, or does not belong to this model."""


class RunWriteError(FastcnnError, OSError):
    """A run's folder cannot be written any more, such as on a full disk; what is there is whole."""


class ProgramError(FastcnnError):
    """A program of the engine does not fit the arrays that it would run on; nothing was run."""


class NonFiniteError(FastcnnError, ArithmeticError):
    """A loss, a gradient, weights or outputs are NaN or infinite."""


class GradientError(FastcnnError, AssertionError):
    """A gradient disagrees with finite differences."""


class MissingExtraError(FastcnnError, ImportError):
    """A package that this feature needs is not installed; the message names the extra."""


def cause(error: BaseException) -> str:
    """What went wrong, without the number and the path in the text of an OSError."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


def sentence(error: BaseException) -> str:
    """What a user reads of an error that is expected."""
    if isinstance(error, MemoryError):
        return f"not enough memory ({error}): a smaller batch or smaller images need less"
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename} cannot be read or written ({error.strerror})"
    return cause(error)
