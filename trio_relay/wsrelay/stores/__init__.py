"""Where access keys and blobs are kept."""
