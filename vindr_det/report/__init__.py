"""A run as one HTML page that loads nothing: scores, curves, errors, readers, training, data, and its cases.

In: predictions, truth, images, and the folders that trainings leave. Out: one file. May import every folder
but ``bundle``, ``prediction``, ``api`` and ``commands``. Entry: :func:`vindr_det.report.build.write_report`.
"""
