"""What the user chose, and what this machine can run."""

from config.settings import Settings
from config.store import Loaded, SettingsError, SettingsStore

__all__ = ["Loaded", "Settings", "SettingsError", "SettingsStore"]
