"""Calls by WebRTC: sound over RTP, events over a data channel."""
