"""Teaching CSM a voice from the page: what lies on the disk (`lesson`), and the process that works on it (`work`)."""
