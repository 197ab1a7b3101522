"""Build of a package that cimports fastgd. Cython finds fastgd/_mse.pxd where Python finds fastgd: on sys.path."""

from Cython.Build import cythonize
from setuptools import Extension, setup

setup(ext_modules=cythonize([Extension("momentum_descent", ["momentum_descent.pyx"])], language_level=3))
