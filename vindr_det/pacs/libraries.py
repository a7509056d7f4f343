"""The libraries of the extra ``dicom-out``, each asked for by name before the work."""

from importlib.util import find_spec

from vindr_det.exceptions import InputError

#: Module -> what installs it, as an error says it.
_INSTALLS = {"highdicom": "pip install highdicom", "pynetdicom": "pip install pynetdicom",
             "dicomweb_client": "pip install dicomweb-client"}


def require_libraries(*modules: str) -> None:
    """Check that libraries can be imported.

    Raises:
        InputError: names the first that is missing.
    """
    for module in modules:
        if find_spec(module) is None:
            raise InputError(f"the package {module} is not installed; {_INSTALLS[module]}")
