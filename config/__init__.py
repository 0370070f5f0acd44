"""What the user chose, and what this machine can run."""

from config.private import keep_private
from config.settings import Settings
from config.store import Loaded, SettingsError, SettingsStore

keep_private()  # here, since every process of Parley's comes by before it imports anything that would tell

__all__ = ["Loaded", "Settings", "SettingsError", "SettingsStore"]
