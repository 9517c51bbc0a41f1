"""The version of the program, and the API version that its services answer with."""

VERSION = "0.1.0"

VERSION_KEY = "pfsd-version"
"""Of the trailing metadata of `GetVersion`: VERSION, for which the API has no field."""

API_VERSION = (1, 5, 3)
"""Major, minor, micro: what `GetVersion` answers, because clients of Pachyderm 1.5 compare it."""

SENTENCE = f"{VERSION} (the API is that of Pachyderm {'.'.join(map(str, API_VERSION))})"
"""What programs answer to --version, after their name."""
