"""A web page and an HTTP interface for the models of a bundle, on this machine: ``vindr-det serve``.

Uploads lie in a private temporary folder while they are read, and are removed after that. Names of files and
identifiers of patients are neither shown nor logged.
"""
