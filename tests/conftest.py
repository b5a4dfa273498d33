import logging

import pytest


@pytest.fixture(autouse=True)
def the_log_as_it_was():
    """Verbs that train show what is logged, for the rest of their process; here, other tests follow."""
    package = logging.getLogger("featherweight")
    handlers, level = list(package.handlers), package.level
    yield
    package.handlers = handlers
    package.setLevel(level)
