"""Classification of images: `VisionSpec`, networks, training, corrupted test images."""
