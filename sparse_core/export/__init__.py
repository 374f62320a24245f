"""The forms in which a trained network is used."""
