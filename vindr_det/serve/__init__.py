"""A web page and an HTTP interface for the models of a bundle, on this machine: ``vindr-det serve``.

Uploads are never in a named file. Names of files and identifiers of patients are neither shown nor logged.
"""
