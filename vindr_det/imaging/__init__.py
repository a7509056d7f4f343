"""Image files to 8-bit gray images of known original size.

In: DICOM, PNG, JPEG or TIFF files. Out: ``(height, width)`` uint8 arrays with what was decided on the way
(:class:`decoded.DecodedImage`), resized PNG folders, and one status row per input: an image that could not be
read is never lost. Imports ``structures``, ``files``, ``parallel`` and ``limits``.
"""
