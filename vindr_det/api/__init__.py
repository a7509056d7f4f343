"""What ``import vindr_det`` offers in Python: models that predict, their results, the commands as functions.

docs/python.md has examples. Nothing is imported here, so that each name waits for its own libraries alone.
"""
