"""What these tests take from others: a real server with scripted engines, and a script for the running set."""

from tests.pipeline.engines.test_engines import script
from tests.web.conftest import running

__all__ = ["running", "script"]
