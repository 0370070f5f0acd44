"""The commands csm-generate, csm-dialogue, csm-voice and csm-verify."""
