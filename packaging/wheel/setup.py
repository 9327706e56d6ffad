"""Lets setuptools know that the package has a library: its wheel is of one platform."""

from setuptools import Distribution, setup


class BinaryDistribution(Distribution):
    """A distribution whose library is not compiled by setuptools."""

    def has_ext_modules(self):
        """Return that there is a library."""
        return True


setup(distclass=BinaryDistribution)
