"""Prologue for Python: a synchronous WSGI framework. Reduce magic. Reduce surprise."""

__version__ = "0.1.0"
