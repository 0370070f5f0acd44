"""The user's settings, the catalogue of engines and models, and what this machine can run."""

from config.private import keep_private
from config.settings import Settings
from config.store import Loaded, SettingsError, SettingsStore

keep_private()  # here because every process imports config before any library with telemetry

__all__ = ["Loaded", "Settings", "SettingsError", "SettingsStore"]
