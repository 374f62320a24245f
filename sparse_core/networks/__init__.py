"""Networks for images, as plain modules that more than one package trains."""
