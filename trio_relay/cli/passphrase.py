"""Passphrases of identity files: from a terminal or from a file, never from the command line, which others can see.

What is wrong is raised when no error is handled: the texts and objects of those may hold a part of the passphrase.
"""

from __future__ import annotations

import getpass
import warnings
from typing import Final

from ..identity import MAX_PASSPHRASE, Identity, PassphraseMissing
from .options import UsageError

__all__ = ["ask_new", "load_identity", "read_passphrase"]

_MAX_LINE: Final = MAX_PASSPHRASE + len(b"\r\n")


def load_identity(file: str, passphrase_file: str | None) -> Identity:
    """Reads an identity; if it is encrypted and no file has the passphrase, asks on the terminal (not under Trio).

    Raises:
        UsageError: a file can't be read, or is not what it should be, or there is no terminal.
    """
    passphrase = None if passphrase_file is None else read_passphrase(passphrase_file)
    identity = _load(file, passphrase)
    if identity is None:
        identity = _load(file, _ask(f"Passphrase for {file!a}: "))
    if identity is None:
        raise UsageError(f"{file}: expected a passphrase for this encrypted private key, not an empty one")
    return identity


def _load(file: str, passphrase: str | bytes | None) -> Identity | None:
    """None: it is encrypted, and there is no passphrase."""
    try:
        return Identity.load(file, passphrase)
    except PassphraseMissing:
        return None
    except OSError as error:
        raise UsageError(f"can't read identity {file}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(str(error)) from error


def ask_new(file: str) -> str:
    """Asks for a new passphrase, twice.

    Raises:
        UsageError: it is empty, or not the same both times, or there is no terminal.
    """
    passphrase = _ask(f"New passphrase for {file!a}: ")
    if not passphrase:
        raise UsageError("expected a passphrase, not an empty one; without --passphrase, the key is not encrypted")
    if passphrase != _ask("The same again: "):
        raise UsageError("the two passphrases differ; nothing was written")
    return passphrase


def read_passphrase(file: str) -> bytes:
    """The first line of a file, without its end.

    Raises:
        UsageError: it can't be read, or is empty or too long.
    """
    try:
        with open(file, "rb") as lines:
            # A device never ends.
            line = lines.readline(_MAX_LINE + 1)
    except OSError as error:
        raise UsageError(f"can't read passphrase file {file}: {error.strerror}") from error
    passphrase = line.removesuffix(b"\n").removesuffix(b"\r")
    if not 0 < len(passphrase) <= MAX_PASSPHRASE:
        raise UsageError(f"{file}: expected a passphrase of 1 to {MAX_PASSPHRASE} bytes on the first line")
    return passphrase


def _ask(prompt: str) -> str:
    try:
        with warnings.catch_warnings():
            # Where it can't turn the echo off, `getpass` would warn, and show what is typed.
            warnings.simplefilter("error", getpass.GetPassWarning)
            return getpass.getpass(prompt)
    except getpass.GetPassWarning:
        problem = "expected a terminal to ask for the passphrase, or --passphrase-file"
    except EOFError:
        problem = "expected a passphrase, and the input ended"
    except UnicodeDecodeError:
        problem = "expected a passphrase in the terminal's encoding"
    except OSError as error:
        problem = f"can't ask for the passphrase: {error.strerror or error}"
    raise UsageError(problem)
