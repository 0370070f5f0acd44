"""The Wyoming protocol, which Home Assistant speaks to local ears, voices and minds over TCP. Off by default."""
