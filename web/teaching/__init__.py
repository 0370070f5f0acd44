"""Teaches CSM a voice from the page: what is kept on the disk (`lesson`), and the process that works on it (`work`)."""
