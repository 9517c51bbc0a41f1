"""Images of containers as files: layers and archives, written without docker."""
