"""Who is speaking: people told apart by their voices, where that is asked for."""
