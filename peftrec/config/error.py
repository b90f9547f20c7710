"""The two errors a user can cause."""


class InputError(ValueError):
    """Something the user handed in is wrong: a data file, a backbone, a run folder.

    The message names the file, row, key or value and what would be right. The command line prints it without a
    traceback and exits with 1.
    """


class RecipeError(InputError):
    """The recipe or the command is wrong. Raised before anything is loaded; the command line exits with 2."""
