"""The Wyoming protocol, with which Home Assistant uses local ears, voices and minds over TCP. Off by default."""
