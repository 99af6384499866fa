"""What a user is meant to read: a refusal, or a line beside the results."""

import sys


class UserError(ValueError):
    """Bad input from the user: one sentence that names the argument, what it got,
    what is expected and the next step.

    The command line prints the sentence and exits with code 2, without a traceback.
    """


class NotFetchedError(UserError):
    """What is asked for lies on the network, or has not been downloaded yet."""


def tell(sentence: str) -> None:
    """A line for the user on stderr, beside the results: what is not as one might expect."""
    print(f"zolit: {sentence}", file=sys.stderr, flush=True)
