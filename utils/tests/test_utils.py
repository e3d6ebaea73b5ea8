"""`from utils import ...` gives the public names, and loads no more than they need."""

import subprocess
import sys

import pytest

import utils


@pytest.mark.parametrize("name", utils.__all__)
def test_each_public_name_is_that_of_its_module(name: str) -> None:
    found = getattr(utils, name)
    assert getattr(sys.modules[found.__module__], name) is found


def test_the_public_names_are_listed_for_editors() -> None:
    assert set(utils.__all__) <= set(dir(utils))


@pytest.mark.parametrize("name", utils.__all__)
def test_importing_a_public_name_does_not_load_torch(name: str) -> None:
    code = f"import sys\nfrom utils import {name}\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8")
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_a_shape_of_numpy_is_checked_without_torch() -> None:
    code = "import sys, numpy\nfrom utils import check_shape\n"
    code += "print(check_shape(numpy.zeros((2, 3)), ('B', 'T')), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8")
    assert (done.stdout, done.stderr) == ("(2, 3) False\n", "")


def test_an_unknown_name_is_an_attribute_error_and_modules_still_import() -> None:
    with pytest.raises(AttributeError, match="module 'utils' has no attribute 'check_shpae'"):
        utils.check_shpae  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]
    from utils import errors

    assert errors.CourseError is utils.CourseError
