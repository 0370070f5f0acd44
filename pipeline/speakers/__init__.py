"""Who is speaking: tells people apart by their voices, if that is switched on."""
