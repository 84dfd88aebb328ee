"""The multimodal encoder: parts -> trunk -> bottleneck -> memory -> heads, each by its settings."""
