"""The command line: ``trio-relay node | serve | send | demo | keygen``.

Exit codes: 0 done; 1 it failed while running (for example, a message was not delivered); 2 it could not start (usage,
an address taken, a bad key file or URL); 130 interrupted. Errors are one line on standard error.
"""

from .main import main

__all__ = ["main"]
