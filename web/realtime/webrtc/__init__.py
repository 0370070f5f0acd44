"""WebRTC calls: sound over RTP, events over a data channel."""
