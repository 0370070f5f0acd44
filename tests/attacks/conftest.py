"""What these tests take from others: a real server with scripted engines, and a script for the running set."""

from tests.pipeline.engines.test_engines import script
from tests.support.logging_as_before import logging_as_before
from tests.web.conftest import running

__all__ = ["logging_as_before", "running", "script"]
