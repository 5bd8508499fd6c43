"""Which lexiseg this is."""

from importlib.metadata import PackageNotFoundError, version


def version_number() -> str:
    """Of the installed package, in words where there is none."""
    try:
        return version("lexiseg")
    except PackageNotFoundError:
        return "(not installed: run from a checkout)"
