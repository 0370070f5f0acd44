"""Recordings in, speech out: files, loudspeakers, watermarks."""
