"""Searchbar: the inference stack behind a music search bar."""

__version__ = "0.1.0"
