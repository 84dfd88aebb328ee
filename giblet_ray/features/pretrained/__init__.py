"""What pretrained networks of the Hugging Face library make of a film, TR by TR."""
