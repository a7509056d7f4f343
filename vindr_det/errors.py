"""The one exception that means: the input is wrong, and this line says where and how."""


class InputError(ValueError):
    """Bad input, told in one line: the file, the row or key, the value, what was expected.

    The tools print it without a traceback and exit 2; see ``vindr_det.cli``.
    """
