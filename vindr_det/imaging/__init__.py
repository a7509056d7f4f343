"""Image files to 8-bit gray images of known original size.

In: DICOM, PNG or JPEG files. Out: ``(height, width)`` uint8 arrays with what was decided while decoding
(:class:`decoded.DecodedImage`), folders of resized PNGs, and one status row per input, also of those that
failed.

From a file to pixels: ``read`` (``dicom/``, ``jpeg``), ``resize``, ``frontal_check``. From a folder to
images: ``inputs`` lists it, ``image_run`` reads it, ``status`` records it, ``prepare`` writes PNGs and
tables, which ``prepared_folder`` and ``sizes`` read, and ``packed`` holds in a single file. Imports
``files``, ``tables``, ``parallel`` and ``limits``.
"""
