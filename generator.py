"""The established names: `from generator import load_csm_1b, Segment, generate_streaming_audio`. All of it is `csm`."""

from csm.generator import Generator, Segment, generate_streaming_audio, load_csm_1b, load_csm_1b_local

__all__ = ["Generator", "Segment", "generate_streaming_audio", "load_csm_1b", "load_csm_1b_local"]
