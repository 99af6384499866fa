"""The one exception a user is meant to read."""


class UserError(ValueError):
    """Bad input from the user: one sentence that names the argument, what it got,
    what is expected and the next step.

    The command line prints the sentence and exits with code 2, without a traceback.
    """


class NotFetchedError(UserError):
    """What is asked for lies on the network, or has not been downloaded yet."""
